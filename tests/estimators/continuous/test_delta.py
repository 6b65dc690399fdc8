"""The delta-method control variate: nothing is left of a quadratic, and any coefficient leaves the mean as it is."""

from __future__ import annotations

import pytest
import torch
from oracles.gaussian_toy import columns, make_leaves, make_objective, sample_toy

from estbench import estimators
from estbench.certify import run_bias_tests, small_problems_for
from estbench.errors import EstbenchError
from estbench.estimators.continuous.delta import coefficient, expansion


@pytest.mark.parametrize("kl", ["none", "sampled"])
@pytest.mark.parametrize("variant", ["delta", "delta[num_samples=3]", "delta[coefficient_draws=5]"])
def test_it_has_no_variance_on_quadratics(variant, kl):
    """The log-densities of a sampled KL are quadratics too. The estimated coefficient is 1 there."""
    m, s, k = columns()
    found = sample_toy(variant, 200, kl=kl)
    sampled = kl == "sampled"
    expected = {"loc": 2 * (m - k) - sampled * m, "log_scale": 2 * s**2 - sampled * (s**2 - 1)}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value[:, None].expand(200, -1, 1), rtol=0, atol=1e-9)
    assert float(found["k"].var(0).min()) > 0.1


def test_it_takes_away_most_of_the_variance_of_a_smooth_f():
    """cos(k z) with k s = 1/2: less than a fourth of the plain score function's."""
    rows = ((1.0, 1.0, 0.5), (0.5, 0.25, 2.0))
    plain, delta = (sample_toy(variant, 20_000, cost="cosine", rows=rows) for variant in ("reinforce", "delta"))
    for name in ("loc", "log_scale"):
        assert bool((delta[name].var(0) < plain[name].var(0) / 4).all())


def test_the_expansion_is_autograd_s():
    torch.manual_seed(0)
    loc = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, dtype=torch.float64)

    def f(z):
        return (z.square().sum(-1) * (z * weight).sum(-1)).tanh()

    value, gradient, hessian = expansion(f, loc)
    torch.testing.assert_close(value, f(loc).detach())
    for row in range(4):
        point = loc[row].detach()
        torch.testing.assert_close(gradient[row], torch.autograd.functional.jacobian(f, point))
        torch.testing.assert_close(hessian[row], torch.autograd.functional.hessian(f, point))
    assert not any(part.requires_grad for part in (value, gradient, hessian))


@pytest.mark.parametrize("f", [lambda z: (2 * z).sum(-1), lambda z: z.detach().sin().sum(-1) + 0 * z.sum(-1)])
def test_a_linear_f_has_no_curvature(f):
    _, gradient, hessian = expansion(f, torch.ones(2, 3, dtype=torch.float64))
    assert hessian.shape == (2, 3, 3)
    assert hessian.eq(0).all()
    assert gradient.shape == (2, 3)


def test_the_coefficient_is_that_of_least_squares():
    """Of f s on h s, both centred, over draws and coordinates."""
    torch.manual_seed(1)
    noise = torch.randn(30, 2, 3, dtype=torch.float64)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    f, h = torch.randn(2, 30, 2, dtype=torch.float64)
    found = coefficient(f, h, noise, scale)
    for b in range(2):
        score = torch.cat([noise[:, b] / scale, noise[:, b] ** 2 - 1], -1)
        first, second = (values[:, b, None] * score for values in (f, h))
        first, second = ((values - values.mean(0)).flatten() for values in (first, second))
        solution = torch.linalg.lstsq(second[:, None], first[:, None]).solution
        torch.testing.assert_close(found[b], solution.squeeze())


def test_the_coefficient_comes_from_draws_of_its_own():
    """Evaluations: the samples, one at the mean, and the separate draws."""
    estimator = estimators.create("delta[num_samples=2,coefficient_draws=7]")
    problem = make_objective(make_leaves(4))
    estimator(problem)
    assert estimator.evaluations == 2 + 1 + 7
    assert problem.evaluations == 10 * 4 * 3


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["delta", "delta[coefficient_draws=5]"])
@pytest.mark.parametrize("problem", small_problems_for({"normal"}, {"elbo"})[:2], ids=lambda problem: problem.name)
def test_the_mean_is_the_exact_gradient(problem, variant):
    assert all(test.unbiased for test in run_bias_tests(estimators.create(variant), problem, coordinates=48))


def test_too_few_draws_for_a_coefficient_are_refused():
    with pytest.raises(EstbenchError, match="take 5 or more, or 0"):
        estimators.create("delta[coefficient_draws=4]")
