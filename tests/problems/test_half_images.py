"""``half_images`` against sums over all values of its units, written out again."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from oracles.z_scores import largest_z, z_of_mean
from torch.distributions import Bernoulli

from estbench import estimators, measure, problems
from estbench.errors import EstbenchError

TINY = "half_images[dataset=digits,latent_size=3,hidden=[4]{}]"
REPLICATES = 4000


def made(extra="", examples=3):
    torch.manual_seed(3)
    problem = problems.create(TINY.format(extra)).double()
    with torch.no_grad():
        for weight in problem.parameters():
            weight.mul_(4.0)
    x = problem.observe(torch.from_numpy(problem.data.train[:examples]).double(), torch.Generator().manual_seed(1))
    return problem, x


def table(problem, x, logits=None):
    """Return p(h|x) and log p(y|h) for every h, (8, B) each, from the networks and torch's own distributions."""
    upper, lower = x[:, :32], x[:, 32:]
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=x.dtype)
    prob = Bernoulli(logits=problem.encoder(upper) if logits is None else logits).log_prob(bits[:, None]).sum(-1).exp()
    pixels = problem.decoder(2 * bits - 1)[:, None].expand(-1, len(x), -1)
    log_y = Bernoulli(logits=pixels).log_prob(lower.expand(8, *lower.shape)).sum(-1)
    return prob, log_y


def bound(prob, log_y, count):
    """Return E[log (1/K) sum_k p(y|h_k)] as a sum over all draws of K values, (B,)."""
    draws = [list(each) for each in itertools.product(range(8), repeat=count)]
    return sum(prob[each].prod(0) * (log_y[each].logsumexp(0) - math.log(count)) for each in draws)


def test_the_elbo_is_the_mean_log_likelihood_under_the_networks_own_units():
    problem, x = made()
    prob, log_y = table(problem, x)
    torch.testing.assert_close(problem(x).exact(), (prob * log_y).sum(0))
    assert problem(x).kl().tolist() == [0.0] * 3


@pytest.mark.parametrize("count", [2, 3])
def test_the_multi_sample_bound_averages_the_likelihood_of_k_draws(count):
    problem, x = made(f",importance_samples={count}")
    torch.testing.assert_close(problem(x).exact(), bound(*table(problem, x), count))


def test_bounds_grow_with_the_draws_to_the_likelihood():
    problem, x = made()
    prob, log_y = table(problem, x)
    bounds = [problem(x).exact()]
    for count in (2, 3, 4):
        several, _ = made(f",importance_samples={count}")
        bounds.append(several(x).exact())
    for lower, higher in itertools.pairwise([*bounds, (prob.log() + log_y).logsumexp(0)]):
        assert (lower < higher).all()


def test_the_units_see_the_upper_half_and_predict_the_lower_one():
    problem, x = made()
    other = x.clone()
    other[:, 32:] = 1 - other[:, 32:]
    assert torch.equal(problem.encode(x)["logits"], problem.encode(other)["logits"])
    h = torch.ones(1, 3, 3, dtype=x.dtype)
    swapped = torch.cat([1 - x[:, :32], x[:, 32:]], 1)
    params = problem.encode(x)
    assert torch.equal(problem.objective(params, x).f(h), problem.objective(params, swapped).f(h))
    assert not torch.equal(problem.objective(params, x).f(h), problem.objective(params, other).f(h))


@pytest.mark.parametrize("variant", ["reinforce", "rloo", "disarm", "muprop", "arm"])
def test_gradients_of_the_elbo_have_the_enumerated_mean(variant):
    check_means(variant, "")


@pytest.mark.parametrize("variant", ["reinforce-iwae", "vimco", "vimco[mean=arithmetic]", "ovis"])
def test_gradients_of_the_multi_sample_bound_have_the_enumerated_mean(variant):
    """The prior moves with q: dropping the gradient of -log q and not that of log p would bias them."""
    check_means(variant, ",importance_samples=3")


def check_means(variant, extra):
    problem, x = made(extra)
    estimator = estimators.create_for(variant, problem)
    assert estimator.unbiased
    draws = measure.draw_gradients(problem, estimator, x, REPLICATES, seed=5)
    logits = problem.encode(x)["logits"].detach().requires_grad_()
    gradient = torch.autograd.grad(bound(*table(problem, x, logits), problem(x).importance_samples).sum(), logits)[0]
    assert z_of_mean(draws["logits"], gradient).abs().max() < largest_z(9 * 9)


def test_the_decoder_learns_from_the_weighted_draws():
    """The whole gradient of the weights, too, for an estimator of each bound."""
    for variant, extra in (("rloo", ""), ("vimco", ",importance_samples=3")):
        problem, x = made(extra, examples=1)
        weights = list(problem.parameters())
        exact = torch.autograd.grad(bound(*table(problem, x), problem(x).importance_samples).sum(), weights)
        copies = x.expand(REPLICATES, -1)
        drawn = torch.autograd.grad(estimators.create_for(variant, problem)(problem(copies)).mean(), weights)
        # Of the sizes of gradients: with 4,000 draws of this model, a tenth is more than ten standard errors.
        for one, other in zip(drawn, exact, strict=True):
            assert (one - other).norm() < 0.1 * torch.cat([each.flatten() for each in exact]).norm()


def test_halves_of_odd_and_coloured_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("odd.npz", images=rng.integers(0, 256, (60, 5, 4), dtype=np.uint8))
    np.savez("colour.npz", images=rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8))
    for file, seen, predicted in (("odd.npz", 8, 12), ("colour.npz", 24, 24)):
        problem = problems.create(f"half_images[dataset=file:{file},latent_size=2,hidden=[]]")
        assert (problem.encoder[0].in_features, problem.decoder[0].out_features) == (seen, predicted)
    x = torch.arange(48.0)[None]
    upper, lower = problem._halves(x)
    image = x.view(3, 4, 4)
    assert torch.equal(upper[0], image[:, :2].flatten())
    assert torch.equal(lower[0], image[:, 2:].flatten())


def test_its_bounds_are_never_beside_those_of_whole_images():
    cards = {
        problems.PROBLEMS.get(name).card_of(problems.PROBLEMS.options(f"{name}[dataset=digits,latents=bernoulli]"))
        for name in ("vae", "half_images")
    }
    assert len(cards) == 2


def test_an_image_of_one_row_has_no_halves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("row.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 8), dtype=np.uint8))
    with pytest.raises(EstbenchError, match="row"):
        problems.create("half_images[dataset=file:row.npz]")


def test_options_without_effect_are_refused():
    for options in ("hidden=[],activation=relu", "categories=3"):
        with pytest.raises(EstbenchError, match=r"no effect|has no"):
            problems.create(f"half_images[dataset=digits,{options}]")
