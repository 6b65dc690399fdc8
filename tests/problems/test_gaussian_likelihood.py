"""Grey pixels under a normal density: its values, its learned scale, and that it is told from binarised pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from estbench import datasets, estimators, measure, problems
from estbench.errors import EstbenchError

OPTIONS = "dataset=digits,likelihood=gaussian,latent_size=3,hidden=[8]"


def grey_vae(more=""):
    torch.manual_seed(1)
    return problems.create(f"vae[{OPTIONS}{more}]").double()


def grey_images(vae, count=5):
    return torch.from_numpy(vae.data.train[:count]).double()


def density(vae, x, z):
    """log p(x|z) by torch.distributions, with sigma as a standard deviation."""
    mean = vae.decoder(z)
    return Independent(Normal(mean, vae.likelihood.log_sigma.exp().expand_as(mean)), 1).log_prob(x)


@pytest.mark.parametrize(("samples", "batch_shape"), [(1, (5,)), (4, (5,)), (3, (2, 6, 5))])
def test_f_is_a_normal_density_with_its_constant(samples, batch_shape):
    vae = grey_vae()
    x = grey_images(vae)
    params = {name: value.expand(*batch_shape, 3) for name, value in vae.encode(x).items()}
    objective = vae.objective(params, x)
    z = objective.q.sample((samples,))
    for log_sigma in (-3.0, 0.4):
        torch.nn.init.constant_(vae.likelihood.log_sigma, log_sigma)
        torch.testing.assert_close(objective.f(z), density(vae, x, z), rtol=1e-12, atol=0)
    # A density is not bounded by 1: where sigma is small and the mean is right, it is above.
    torch.nn.init.constant_(vae.likelihood.log_sigma, -3.0)
    assert bool((vae.objective(params, vae.decoder(z)[0]).f(z[:1]) > 0).all())


def test_with_bits_its_bound_is_the_evidence_summed_over_all_of_them():
    """log p(x) = log sum_b p(b) p(x|b); the ELBO is below it by KL(q || p(b|x))."""
    vae = grey_vae(",latents=bernoulli")
    x = grey_images(vae)
    objective = vae(x)
    bits = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3)[:, None].expand(8, 5, 3)
    joint = Independent(Bernoulli(logits=torch.zeros(3).double()), 1).log_prob(bits) + density(vae, x, bits)
    log_q = Independent(Bernoulli(logits=objective.params["logits"]), 1).log_prob(bits)
    gap = (log_q.exp() * (log_q - (joint - joint.logsumexp(0)))).sum(0)
    torch.testing.assert_close(objective.exact(), joint.logsumexp(0) - gap, rtol=1e-12, atol=0)
    assert float(gap.detach().min()) > 1e-3


def test_pixels_written_as_2x_minus_1_take_log_2_each_from_the_density():
    """p(2x - 1) = p(x) / 2, with a mean and a sigma in the same unit."""
    vae = grey_vae()
    x = grey_images(vae)
    z = torch.randn(1, 5, 3).double()
    mean, sigma = vae.decoder(z), vae.likelihood.log_sigma.exp()
    stretched = Independent(Normal(2 * mean - 1, 2 * sigma.expand_as(mean)), 1).log_prob(2 * x - 1)
    torch.testing.assert_close(vae(x).f(z) - stretched, torch.full((1, 5), 64 * math.log(2)).double())
    assert round(784 * math.log(2), 1) == 543.4


def test_its_gradients_are_those_of_the_density():
    """With r = x - g(z): d/dg = r / sigma^2 and d/dlog sigma = sum(r^2) / sigma^2 - X, of X pixels."""
    vae = grey_vae()
    x = grey_images(vae)
    z = torch.randn(2, 5, 3).double()
    f = vae(x).f(z).sum()
    residual, sigma = x - vae.decoder(z).detach(), vae.likelihood.log_sigma.detach().exp()
    gradient, bias = torch.autograd.grad(f, [vae.likelihood.log_sigma, vae.decoder[-1].bias])
    expected = (residual.square() / sigma.square() - 1).sum()
    torch.testing.assert_close(gradient, expected[None], rtol=1e-12, atol=0)
    torch.testing.assert_close(bias, (residual / sigma.square()).sum((0, 1)), rtol=1e-12, atol=1e-10)


def test_observing_leaves_the_pixels_grey_and_draws_nothing():
    vae = grey_vae()
    intensities = torch.from_numpy(vae.data.train[:50])
    generator = torch.Generator().manual_seed(6)
    before = generator.get_state()
    assert torch.equal(vae.observe(intensities, generator), intensities)
    assert torch.equal(generator.get_state(), before)
    assert bool(((intensities > 0) & (intensities < 1)).any())


def test_sigma_starts_at_the_spread_of_the_training_pixels_and_belongs_to_the_decoder():
    vae = grey_vae()
    spread = torch.from_numpy(vae.data.train).double().std(correction=0)
    torch.testing.assert_close(vae.likelihood.log_sigma.exp(), spread[None], rtol=1e-6, atol=0)
    assert any(weight is vae.likelihood.log_sigma for weight in vae.groups()["decoder"])


def test_the_other_initial_weights_are_those_of_binarised_pixels():
    grey = grey_vae().state_dict()
    torch.manual_seed(1)
    binary = problems.create(f"vae[{OPTIONS}]".replace("gaussian", "bernoulli")).double().state_dict()
    assert set(grey) - set(binary) == {"likelihood.log_sigma"}
    assert all(torch.equal(grey[name], weight) for name, weight in binary.items())


def test_the_probe_takes_its_fast_path():
    vae = grey_vae()
    found = measure.probe(vae, estimators.create("rloo"), grey_images(vae), replicates=10)
    assert (found.path, found.reason) == ("fast", "")


def test_bounds_are_never_mixed_with_those_of_binarised_pixels():
    resolve = problems.PROBLEMS.resolve
    assert resolve(f"vae[{OPTIONS}]").card == "digits-v1-continuous-shuffled-normal-fixed-binary"
    assert resolve("vae[dataset=digits]").card == "digits-v1-dynamic-shuffled-normal-fixed-binary"


@pytest.mark.parametrize("name", [name for name in datasets.names() if datasets.info(name).binarisation == "static"])
def test_binary_images_are_refused(name):
    with pytest.raises(EstbenchError, match=f"'likelihood' cannot be gaussian: the pixels of '{name}' are binary"):
        problems.create(f"vae[dataset={name},likelihood=gaussian]")
