"""The optimal scalar baseline, and the normalisation of NVIL."""

from __future__ import annotations

import pytest
import torch
from oracles.gaussian_toy import GAUSSIAN_COSTS, columns, make_leaves, make_objective, sample_toy
from oracles.z_scores import largest_z, z_of_variance
from torch.distributions import Bernoulli, Independent

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators._baselines import Optimal, squared_score
from estbench.latents import BernoulliLatents, CategoricalLatents, GammaLatents
from estbench.problems import Objective


def test_with_many_draws_the_variance_is_the_least_that_a_scalar_leaves():
    """Quadratic, for the mean alone: 8 d^2 + 6 s^2, and E[(b - b*)^2] / s^2 more, for a b of mean squared error."""
    m, s, k = columns()
    d, n, samples = m - k, 10_000, 200
    best = d**2 + 3 * s**2
    estimator = estimators.create(f"reinforce[baseline=optimal,baseline_draws={samples}]").eval()
    gradients, errors = [], []
    torch.manual_seed(3)
    for _ in range(10):
        parts = make_leaves(n // 10)
        problem = make_objective(parts, names=("loc",))
        gradients.append(torch.autograd.grad(estimator(problem).sum(), parts["loc"])[0][..., 0])
        errors.append((estimator.baseline(problem) - best).square())
    excess = torch.cat(errors).mean(0) / s**2
    z = z_of_variance(torch.cat(gradients), 8 * d**2 + 6 * s**2 + excess)
    assert float(z.abs().max()) < largest_z(3)
    assert bool((excess < 0.5 * (8 * d**2 + 6 * s**2)).all())


@pytest.mark.parametrize("states", [[0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
def test_on_one_bit_it_leaves_no_variance(states):
    """Draws in the very proportions of theta give b* itself, (1 - theta) f(1) + theta f(0): every estimate is exact."""
    theta, target = sum(states) / len(states), 0.45
    logits = torch.tensor([[theta]], dtype=torch.float64).logit().requires_grad_()
    fixed = torch.tensor(states, dtype=torch.float64)[:, None, None]

    def objective_of(sample):
        def family(params):
            q = Independent(Bernoulli(logits=params["logits"]), 1)
            q.sample = sample
            return q

        zero = torch.zeros(1, dtype=torch.float64)
        return Objective(
            {"logits": logits}, family, lambda b: (b - target).square().sum(-1), lambda: None, kl=lambda: zero
        )

    for bit in (0.0, 1.0):
        problem = objective_of(lambda shape, bit=bit: fixed if shape[0] > 1 else torch.full((1, 1, 1), bit).double())
        estimator = estimators.create(f"reinforce[baseline=optimal,baseline_draws={len(states)}]")
        (gradient,) = torch.autograd.grad(estimator(problem).sum(), logits)
        assert float(gradient) == pytest.approx(theta * (1 - theta) * (1 - 2 * target), rel=1e-12)


def test_the_squared_score_is_that_of_each_sample_example_and_replicate():
    torch.manual_seed(4)
    parts = make_leaves(5, latents=2)
    problem = make_objective(parts)
    z = problem.q.sample((7,))
    e = ((z - parts["loc"]) / parts["log_scale"].exp()).detach()
    expected = ((e / parts["log_scale"].detach().exp()) ** 2 + (e**2 - 1) ** 2).sum(-1)
    torch.testing.assert_close(squared_score(problem, z), expected)


@pytest.mark.parametrize("latents", [BernoulliLatents(3), CategoricalLatents(2, 3), GammaLatents(2)])
def test_the_squared_score_of_other_latents_is_autograd_s(latents):
    torch.manual_seed(5)
    params = latents.split(torch.randn(4, latents.outputs, dtype=torch.float64))
    problem = Objective(params, latents.family, lambda z: z, lambda: None)
    z = problem.q.sample((6,))
    found = squared_score(problem, z)
    assert found.shape == (6, 4)
    for sample, example in ((0, 0), (3, 2), (5, 3)):
        row = {name: value[example].clone().requires_grad_() for name, value in params.items()}
        scores = torch.autograd.grad(latents.family(row).log_prob(z[sample, example]), list(row.values()))
        torch.testing.assert_close(found[sample, example], sum(score.square().sum() for score in scores))


def test_its_draws_are_counted():
    estimator = estimators.create("reinforce[baseline=optimal,num_samples=2,baseline_draws=7]")
    problem = make_objective(make_leaves(4))
    estimator(problem)
    assert estimator.evaluations == 9
    assert problem.evaluations == 9 * 4 * 3


def test_a_baseline_of_its_own_draws_takes_nothing_from_the_decoder():
    """The separate draws carry no gradient: the decoder's is that of the samples alone."""
    parts = make_leaves(4)
    torch.manual_seed(6)
    surrogate = estimators.create("reinforce[baseline=optimal]")(make_objective(parts))
    (found,) = torch.autograd.grad(surrogate.sum(), parts["k"])
    torch.manual_seed(6)
    problem = make_objective(parts)
    z = problem.q.sample((1,))
    (expected,) = torch.autograd.grad(GAUSSIAN_COSTS["quadratic"](z, parts["k"]).sum(), parts["k"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert isinstance(estimators.create("reinforce[baseline=optimal]").baseline, Optimal)


# --- the normalisation of NVIL ------------------------------------------------------------------------------------


def nvil(normalise, steps=4, kl="none"):
    """After a few steps of training mode, without an optimiser: the network is as it was."""
    torch.manual_seed(7)
    estimator = estimators.create(f"reinforce[baseline=nvil,hidden=5,normalise={str(normalise).lower()}]")
    estimator.prepare(make_objective(make_leaves()))
    for _ in range(steps):
        estimator(make_objective(make_leaves(3), kl=kl))
    return estimator


@pytest.mark.parametrize("kl", ["none", "analytic", "sampled"])
def test_the_normalised_gradient_has_the_direction_and_another_length(kl):
    """By 1 / max(1, sd), the same for all, the KL's part too: sd^2 is the moving average of past squared signals."""
    plain, normalised = (sample_toy(nvil(normalise, kl=kl), 5, kl=kl, seed=8) for normalise in (False, True))
    estimator = nvil(normalise=True, kl=kl)
    spread = float(estimator.spread(make_objective(make_leaves())).sqrt())
    assert spread > 1
    for name in ("loc", "log_scale"):
        torch.testing.assert_close(plain[name], spread * normalised[name])
    assert torch.equal(plain["k"], normalised["k"])


def test_a_small_spread_is_not_blown_up():
    plain, normalised = nvil(normalise=False), nvil(normalise=True)
    normalised.spread.mean.fill_(0.25 * float(normalised.spread.weight))
    assert torch.equal(sample_toy(plain, 5, seed=8)["loc"], sample_toy(normalised, 5, seed=8)["loc"])


def test_before_there_is_a_spread_there_is_no_gradient_but_the_decoder_s():
    found = sample_toy(nvil(normalise=True, steps=0), 5, kl="analytic")
    assert bool(found["loc"].eq(0).all())
    assert bool(found["k"].ne(0).all())


def test_the_network_learns_from_the_signal_as_it_is():
    def gradients(estimator):
        torch.manual_seed(9)
        surrogate = estimator.train()(make_objective(make_leaves(3)))
        return torch.autograd.grad(surrogate.sum(), list(estimator.baseline.parameters()))

    assert all(map(torch.equal, gradients(nvil(normalise=False)), gradients(nvil(normalise=True))))


def test_the_spread_is_of_the_past():
    estimator = nvil(normalise=True)
    held = estimator.spread.mean.clone()
    sample_toy(estimator, 3)
    assert torch.equal(held, estimator.spread.mean)
    estimator.train()(make_objective(make_leaves(3)))
    assert not torch.equal(held, estimator.spread.mean)


def test_only_the_normalised_one_is_declared_biased():
    assert estimators.create("reinforce[baseline=nvil]").facts()["unbiased"]
    assert not estimators.create("reinforce[baseline=nvil,normalise=true]").facts()["unbiased"]


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("reinforce[normalise=true]", "option 'normalise' has no effect with baseline=none; drop it"),
        (
            "reinforce[baseline=ema,baseline_draws=3]",
            "option 'baseline_draws' has no effect with baseline=ema; drop it",
        ),
        ("reinforce[baseline=optimal,baseline_draws=0]", "baseline_draws: input should be greater than or equal to 1"),
    ],
)
def test_options_belong_to_their_baselines(variant, said):
    with pytest.raises(EstbenchError, match=said):
        estimators.create(variant)
