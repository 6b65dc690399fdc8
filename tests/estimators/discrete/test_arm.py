"""ARM and DisARM: exact in the mean, by quadrature over their uniform noise; with the variances known for one coin."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import BITS, legendre, moments, name_of, objective_of, prepared, probability, square

from estbench.estimators.discrete import arm

# theta, t, and the variance of one estimate with respect to the logit, to four figures.
COINS = [
    (0.5, 0.45, 0.0002083, 0.0),
    (0.5, 0.499, 8.333e-08, 0.0),
    (0.1, 0.49, 1.303e-05, 1.296e-05),
    (0.1, 0.45, 0.0003257, 0.000324),
    (0.8, 0.45, 0.0003973, 0.000384),
    (0.9, 0.49, 1.303e-05, 1.296e-05),
]


def noise(theta, nodes):
    """Points and weights for u of one bit: what the pair does with it changes at theta and at 1 - theta."""
    return legendre([0.0, *sorted({min(theta, 1 - theta), max(theta, 1 - theta)}), 1.0], nodes)


def coin(variant, theta, target, monkeypatch):
    """Mean and variance on one coin: the gradient is a polynomial in u on each piece."""
    u, weights = noise(theta, 4)
    monkeypatch.setattr(arm, "open_uniform", lambda _: u[None, :, None, None])
    logits = probability(theta).expand(len(u), 1, 1).clone().requires_grad_()
    objective = objective_of(logits, square(target))
    (gradients,) = torch.autograd.grad(prepared(variant, objective)(objective).sum(), [logits])
    return [float(moment) for moment in moments(gradients, weights)]


@pytest.mark.parametrize("problem", BITS, ids=name_of)
@pytest.mark.parametrize("variant", ["arm", "disarm"])
def test_the_mean_over_the_noise_is_the_exact_gradient(variant, problem, monkeypatch):
    """Three bits: a grid of uniforms, with the pieces of each bit's own theta, for each example in turn."""
    exact = problem.exact_gradient()
    for example in range(len(problem.weights)):
        axes = [noise(float(theta), 2) for theta in problem.params["logits"][example].sigmoid()]
        u = torch.cartesian_prod(*[points for points, _ in axes])
        weights = torch.cartesian_prod(*[weights for _, weights in axes]).prod(-1)
        monkeypatch.setattr(arm, "open_uniform", lambda like, u=u: u[None, :, None].expand_as(like))
        leaves = problem.leaf_tensors(len(u))
        objective = problem.objective(leaves)
        found = torch.autograd.grad(prepared(variant, objective)(objective).sum(), list(leaves.values()))
        for name, gradients in zip(leaves, found, strict=True):
            mean, _ = moments(gradients, weights)
            torch.testing.assert_close(mean[example], exact[name][example], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("theta", "target", "arm_variance", "disarm_variance"), COINS)
def test_the_variance_on_one_coin_is_the_known_one(theta, target, arm_variance, disarm_variance, monkeypatch):
    """Against closed forms in m = min(theta, 1 - theta) to rounding, and against the table to its four figures."""
    delta, p, m = 1 - 2 * target, theta * (1 - theta), min(theta, 1 - theta)
    known = {
        "arm": (2 / 3 * delta**2 * (1 / 8 - (1 / 2 - m) ** 3) - (delta * p) ** 2, arm_variance),
        "disarm": (0.5 * delta**2 * (1 - m) ** 2 * m * (1 - 2 * m), disarm_variance),
    }
    for variant, (formula, table) in known.items():
        mean, variance = coin(variant, theta, target, monkeypatch)
        assert mean == pytest.approx(p * delta, rel=1e-12)
        assert variance == pytest.approx(formula, rel=1e-9, abs=1e-18)
        assert variance == pytest.approx(table, rel=5e-4, abs=1e-18)


@pytest.mark.parametrize("theta", [0.02, 0.2, 0.4, 0.5, 0.6, 0.95])
def test_disarm_is_never_noisier_than_arm(theta, monkeypatch):
    _, rough = coin("arm", theta, 0.45, monkeypatch)
    _, smooth = coin("disarm", theta, 0.45, monkeypatch)
    assert smooth < rough


def test_disarm_has_no_variance_for_one_fair_coin():
    """Every single draw is the exact gradient."""
    logits = torch.zeros(1000, 1, 1, dtype=torch.float64, requires_grad=True)
    objective = objective_of(logits, square(0.45))
    torch.manual_seed(0)
    (gradients,) = torch.autograd.grad(prepared("disarm", objective)(objective).sum(), [logits])
    torch.testing.assert_close(gradients, torch.full_like(gradients, 0.025), rtol=1e-12, atol=0)


@pytest.mark.parametrize("variant", ["arm", "disarm"])
def test_pairs_are_averaged(variant):
    """Two pairs are the mean of the two that the same noise gives one by one."""
    problem = BITS[0]

    def gradient(name, seed=0):
        leaves = problem.leaf_tensors()
        objective = problem.objective(leaves)
        estimator = prepared(name, objective)
        torch.manual_seed(seed)
        return estimator, torch.stack(
            [torch.autograd.grad(estimator(problem.objective(leaves)).sum(), leaves["logits"])[0] for _ in range(2)]
        )

    _, single = gradient(variant)
    double, pairs = gradient(f"{variant}[num_pairs=2]")
    assert double.evaluations == 4
    # Both draw from one stream: two calls of a pair each are one call of two pairs.
    torch.testing.assert_close(pairs[0], single.mean(0), rtol=1e-12, atol=1e-12)
