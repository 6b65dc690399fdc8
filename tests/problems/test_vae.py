"""The VAE's objective against torch.distributions, and what its options and its random draws promise."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from oracles.z_scores import largest_z
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from estbench import problems
from estbench.errors import EstbenchError

SMALL = "dataset=digits,latent_size=3,hidden=[8]"
KINDS = ("analytic", "sampled")
# Sample and batch shapes that an estimator may meet: training, several samples, a probe, a nested probe.
SHAPES = [(1, (5,)), (4, (5,)), (1, (6, 5)), (3, (2, 6, 5))]


def small_vae(kl="analytic", options=SMALL):
    torch.manual_seed(1)
    return problems.create(f"vae[{options},kl={kl}]").double()


def observations(vae, count=5):
    intensities = torch.from_numpy(vae.data.train[:count])
    return vae.observe(intensities, torch.Generator().manual_seed(2)).double()


def expanded(vae, x, batch_shape):
    """Variational parameters of shape (*R, B, D), all different."""
    torch.manual_seed(3)
    return {name: value + 0.3 * torch.randn(*batch_shape, 3).double() for name, value in vae.encode(x).items()}


def normal(params):
    return Independent(Normal(params["loc"], params["log_scale"].exp()), 1)


def standard_normal():
    return Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)


def log_likelihood(vae, x, z):
    logits = vae.decoder(z)
    return Independent(Bernoulli(logits=logits), 1).log_prob(x.expand_as(logits))


@pytest.mark.parametrize(("samples", "batch_shape"), SHAPES)
def test_analytic_objective_is_a_bernoulli_likelihood_less_the_kl_of_normals(samples, batch_shape):
    vae = small_vae()
    x = observations(vae)
    params = expanded(vae, x, batch_shape)
    objective = vae.objective(params, x)
    z = objective.q.sample((samples,))
    assert objective.batch_shape == batch_shape
    assert z.shape == (samples, *batch_shape, 3)
    torch.testing.assert_close(objective.f(z), log_likelihood(vae, x, z), rtol=0, atol=1e-10)
    torch.testing.assert_close(objective.kl(), kl_divergence(normal(params), standard_normal()), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("samples", "batch_shape"), SHAPES)
def test_sampled_objective_carries_prior_and_entropy_in_f(samples, batch_shape):
    vae = small_vae("sampled")
    x = observations(vae)
    params = expanded(vae, x, batch_shape)
    objective = vae.objective(params, x)
    z = objective.q.sample((samples,))
    expected = log_likelihood(vae, x, z) + standard_normal().log_prob(z) - normal(params).log_prob(z)
    torch.testing.assert_close(objective.f(z), expected, rtol=0, atol=1e-10)
    assert torch.equal(objective.kl(), torch.zeros(batch_shape).double())


@pytest.mark.parametrize("kl", KINDS)
def test_log_weight_is_the_same_whichever_kl_is_in_use(kl):
    vae = small_vae(kl)
    x = observations(vae)
    params = expanded(vae, x, (6, 5))
    objective = vae.objective(params, x)
    z = objective.q.sample((4,))
    expected = log_likelihood(vae, x, z) + standard_normal().log_prob(z) - normal(params).log_prob(z)
    torch.testing.assert_close(objective.log_weight(z), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(objective.log_weight(z, objective.frozen_q()), expected, rtol=0, atol=1e-10)


def test_analytic_and_sampled_objectives_have_the_same_mean():
    """z-test per example; n = 20,000 draws each, so a difference of 5 standard errors shows."""
    n = 20_000
    vae, twin = small_vae("analytic"), small_vae("sampled")
    x = observations(vae)
    analytic, sampled = vae(x), twin(x)
    torch.manual_seed(4)
    with torch.no_grad():
        # Independent draws on each side: common ones would cancel the likelihood, and with it what is to be tested.
        first = analytic.f(analytic.q.sample((n,))) - analytic.kl()
        second = sampled.f(sampled.q.sample((n,))) - sampled.kl()
    error = ((first.var(0) + second.var(0)) / n).sqrt()
    z = (first.mean(0) - second.mean(0)) / error
    assert float(z.abs().max()) < largest_z(tests=z.numel())
    assert float(5 * error.max()) < 0.25


def test_evaluations_count_samples_times_replicates_times_examples():
    vae = small_vae()
    x = observations(vae)
    objective = vae.objective(expanded(vae, x, (6, 5)), x)
    assert objective.evaluations == 0
    objective.f(objective.q.sample((4,)))
    assert objective.evaluations == 4 * 6 * 5
    objective.log_weight(objective.q.sample((2,)))
    assert objective.evaluations == (4 + 2) * 6 * 5
    objective.kl()
    objective.frozen_q()
    assert objective.evaluations == (4 + 2) * 6 * 5


def test_frozen_q_is_q_and_passes_gradients_through_z_alone():
    vae = small_vae("sampled")
    x = observations(vae)
    params = {name: value.detach().requires_grad_() for name, value in vae.encode(x).items()}
    objective = vae.objective(params, x)
    z = objective.q.rsample((2,))
    frozen = objective.frozen_q()
    assert torch.equal(frozen.log_prob(z), objective.q.log_prob(z))
    assert not frozen.log_prob(z.detach()).requires_grad
    # d log N(z; m, s) / dz = -(z - m) / s^2, carried to loc by dz/dloc = 1 and to log_scale by dz/dlog_scale = z - m.
    loc, log_scale = torch.autograd.grad(frozen.log_prob(z).sum(), list(params.values()))
    mean, scale = params["loc"].detach(), params["log_scale"].detach().exp()
    slope = -(z.detach() - mean) / scale.square()
    torch.testing.assert_close(loc, slope.sum(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(log_scale, (slope * (z.detach() - mean)).sum(0), rtol=0, atol=1e-10)


def test_scoring_samples_with_a_frozen_q_changes_no_value_and_leaves_out_the_direct_gradient():
    vae = small_vae("sampled")
    x = observations(vae)
    params = {name: value.detach().requires_grad_() for name, value in vae.encode(x).items()}
    objective = vae.objective(params, x)
    z = objective.q.sample((3,))
    live, frozen = objective.f(z), objective.f(z, objective.frozen_q())
    assert torch.equal(live, frozen)
    leaves = list(params.values())
    assert torch.autograd.grad(frozen.sum(), leaves, allow_unused=True) == (None, None)
    direct = torch.autograd.grad(-objective.q.log_prob(z).sum(), leaves, retain_graph=True)
    assert all(map(torch.equal, torch.autograd.grad(live.sum(), leaves), direct))


def test_observe_draws_pixels_with_the_probability_of_their_intensity():
    """z-test per pixel over 4,000 draws; a probability that is off by 0.05 would show in any pixel."""
    n = 4_000
    vae = small_vae()
    intensity = torch.linspace(0, 1, 41)
    drawn = vae.observe(intensity.expand(n, -1), torch.Generator().manual_seed(5))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn[:, 0].eq(0).all()
    assert drawn[:, -1].eq(1).all()
    inner = intensity[1:-1].double()
    z = (drawn[:, 1:-1].double().mean(0) - inner) / (inner * (1 - inner) / n).sqrt()
    allowed = largest_z(tests=len(z))
    assert float(z.abs().max()) < allowed
    assert allowed * math.sqrt(0.25 / n) < 0.05


@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-24])
def test_black_and_white_pixels_are_certain_even_for_the_rarest_random_numbers(drawn, monkeypatch):
    vae = small_vae()
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, drawn))
    intensity = torch.tensor([[0.0, 1.0]])
    assert torch.equal(vae.observe(intensity, torch.Generator()), intensity)


def test_observe_depends_on_its_generator_alone_and_draws_anew_each_time():
    vae = small_vae()
    intensities = torch.from_numpy(vae.data.train[:50])
    before = intensities.clone()
    generator = torch.Generator().manual_seed(6)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = vae.observe(intensities, generator), vae.observe(intensities, generator)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, second)
    generator.manual_seed(6)
    torch.manual_seed(99)
    assert torch.equal(first, vae.observe(intensities, generator))
    assert torch.equal(intensities, before)
    assert first.dtype == torch.float32


def test_groups_hold_every_weight_exactly_once():
    vae = small_vae()
    grouped = [id(weight) for weights in vae.groups().values() for weight in weights]
    assert sorted(grouped) == sorted(id(weight) for weight in vae.parameters())
    assert set(vae.groups()) == {"encoder", "decoder"}


@pytest.mark.parametrize("hidden", [(), (7,), (9, 4)])
def test_hidden_sizes_lay_out_the_encoder_and_mirror_the_decoder(hidden):
    written = ",".join(map(str, hidden))
    vae = small_vae(options=f"dataset=digits,latent_size=2,hidden=[{written}]")
    linear = torch.nn.Linear
    encoder = [(layer.in_features, layer.out_features) for layer in vae.encoder if isinstance(layer, linear)]
    decoder = [(layer.in_features, layer.out_features) for layer in vae.decoder if isinstance(layer, linear)]
    assert encoder == list(zip((64, *hidden), (*hidden, 4), strict=True))
    assert decoder == list(zip((2, *reversed(hidden)), (*reversed(hidden), 64), strict=True))
    # The last layers emit unbounded numbers: no activation follows.
    assert isinstance(vae.encoder[-1], linear)
    assert isinstance(vae.decoder[-1], linear)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("tanh", torch.tanh),
        ("relu", torch.relu),
        ("leaky_relu", torch.nn.functional.leaky_relu),
        ("elu", torch.nn.functional.elu),
    ],
)
def test_activation_is_the_one_asked_for(activation, function):
    vae = small_vae(options=f"dataset=digits,latent_size=2,hidden=[7],activation={activation}")
    x = observations(vae)
    first, _, last = vae.encoder
    expected = last(function(first(x)))
    params = vae.encode(x)
    assert torch.equal(torch.cat([params["loc"], params["log_scale"]], -1), expected)
    z = torch.randn(4, 2).double()
    first, _, last = vae.decoder
    assert torch.equal(vae.decoder(z), last(function(first(z))))


@pytest.mark.parametrize("latents", [1, 5])
def test_latent_size_is_the_event_shape(latents):
    vae = small_vae(options=f"dataset=digits,latent_size={latents},hidden=[7]")
    objective = vae(observations(vae))
    assert objective.q.event_shape == objective.prior.event_shape == (latents,)
    assert all(value.shape == (5, latents) for value in objective.params.values())


def test_initial_weights_depend_on_the_seed_of_torch_alone():
    def weights(seed, kl="analytic"):
        torch.manual_seed(seed)
        return list(problems.create(f"vae[{SMALL},kl={kl}]").state_dict().values())

    first = weights(7)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  (the legacy state is what must not matter)
    torch.rand(100)
    # The choice of KL changes what is computed, and no weight.
    assert all(map(torch.equal, first, weights(7, "sampled")))
    assert not any(map(torch.equal, first, weights(8)))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("vae[dataset=mnist5]", "did you mean 'mnist5k'"),
        ("vae[latent_size=0]", "latent_size"),
        ("vae[hidden=[0]]", "hidden"),
        ("vae[hiden=[5]]", "did you mean 'hidden'"),
        ("vae[activation=gelu]", "activation"),
        ("vae[kl=none]", "kl"),
        ("va", "did you mean 'vae'"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(variant, said):
    with pytest.raises(EstbenchError, match=said):
        problems.create(variant)


def test_describe_gives_the_defaults_that_create_uses():
    facts = problems.describe("vae")
    options = problems.create("vae").options
    assert facts["options"] == {name: getattr(options, name) for name in type(options).model_fields} | {
        "hidden": [200, 200]
    }
    assert facts["latents"] == "normal"
