"""The Gaussian toy's expectation, gradient and variances against numerical integration of their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from estbench import estimators, measure, problems
from estbench.errors import EstbenchError
from estbench.problems.gaussian_variances import variance

COSTS = {
    "quadratic": lambda z, k: (z - k) ** 2,
    "exponential": lambda z, k: np.exp(-k * z**2),
    "cosine": lambda z, k: np.cos(k * z),
}
SLOPES = {
    "quadratic": lambda z, k: 2 * (z - k),
    "exponential": lambda z, k: -2 * k * z * np.exp(-k * z**2),
    "cosine": lambda z, k: -k * np.sin(k * z),
}
# Rows of loc, scale, k.
PLACES = [(1.0, 1.0, 0.1), (1.0, 1.5, 1.0), (-0.4, 0.7, 2.0)]


def toy(cost, k, loc=1.0, scale=1.0, dimensions=1):
    problem = problems.create(f"gaussian_toy[cost={cost},k={k},dimensions={dimensions}]").double()
    # Set in double precision: as options they would start as single-precision numbers.
    problem.loc.data.fill_(loc)
    problem.log_scale.data.fill_(math.log(scale))
    return problem


def objective_of(problem, copies=2):
    x = torch.zeros(copies, 1)
    params = {name: value.detach().clone().requires_grad_() for name, value in problem.encode(x).items()}
    return params, problem.objective(params, x)


def mean(function):
    """E[function(e)], e ~ N(0, 1)."""
    return integrate.quad(lambda e: stats.norm.pdf(e) * function(e), -12, 12, epsabs=1e-13, epsrel=1e-12, limit=200)[0]


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize(("m", "s", "k"), PLACES)
@pytest.mark.parametrize("cost", COSTS)
def test_the_exact_value_and_gradient_are_those_of_the_expected_cost(cost, m, s, k, dimensions):
    params, objective = objective_of(toy(cost, k, m, s, dimensions))
    exact = objective.exact()
    expected = mean(lambda e: COSTS[cost](m + s * e, k))
    torch.testing.assert_close(exact, torch.full_like(exact, -dimensions * expected), rtol=0, atol=1e-10)
    loc, log_scale = torch.autograd.grad(exact.sum(), list(params.values()))
    gradient = mean(lambda e: SLOPES[cost](m + s * e, k))
    spread = mean(lambda e: SLOPES[cost](m + s * e, k) * e * s)
    torch.testing.assert_close(loc, torch.full_like(loc, -gradient), rtol=0, atol=1e-10)
    torch.testing.assert_close(log_scale, torch.full_like(loc, -spread), rtol=0, atol=1e-10)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(("m", "s", "k"), PLACES)
@pytest.mark.parametrize("cost", COSTS)
def test_variances_of_score_function_and_pathwise_estimates(cost, m, s, k):
    c, d = (lambda e: COSTS[cost](m + s * e, k)), (lambda e: SLOPES[cost](m + s * e, k))
    estimates = {
        ("score-function", "loc"): lambda e: c(e) * e / s,
        ("score-function", "scale"): lambda e: c(e) * (e**2 - 1) / s,
        ("pathwise", "loc"): d,
        ("pathwise", "scale"): lambda e: d(e) * e,
    }
    for (estimator, parameter), estimate in estimates.items():
        expected = mean(lambda e, g=estimate: g(e) ** 2) - mean(estimate) ** 2
        assert variance(cost, estimator, parameter, m, s, k) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("m", "s", "k"), PLACES)
@pytest.mark.parametrize("cost", COSTS)
def test_variances_of_measure_valued_estimates(cost, m, s, k):
    c = COSTS[cost]

    def loc(w):
        return (c(m + s * w, k) - c(m - s * w, k)) / (math.sqrt(2 * math.pi) * s)

    def weibull(function):
        return integrate.quad(lambda w: w * math.exp(-(w**2) / 2) * function(w), 0, 14, epsabs=1e-13, limit=200)[0]

    expected = weibull(lambda w: loc(w) ** 2) - weibull(loc) ** 2
    assert weibull(loc) == pytest.approx(mean(lambda e: SLOPES[cost](m + s * e, k)), abs=1e-9)
    assert variance(cost, "measure-valued", "loc", m, s, k) == pytest.approx(expected, rel=1e-8, abs=1e-11)

    # Over M and U on a grid: Gauss-Hermite, whose weights take M^2 in, and Gauss-Legendre.
    points, masses = np.polynomial.hermite_e.hermegauss(120)
    nodes, lengths = np.polynomial.legendre.leggauss(60)
    maxwell, uniform = points[:, None], (nodes[None, :] + 1) / 2
    mass = (masses / masses.sum() * points**2)[:, None] * (lengths / 2)[None, :]
    scale = (c(m + s * maxwell, k) - c(m + s * uniform * maxwell, k)) / s
    centre = (mass * scale).sum()
    assert centre == pytest.approx(mean(lambda e: SLOPES[cost](m + s * e, k) * e), abs=1e-8)
    expected = (mass * (scale - centre) ** 2).sum()
    assert variance(cost, "measure-valued", "scale", m, s, k) == pytest.approx(expected, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize(
    ("k", "known"), [(-3, (495, 4, 17.49, 1546, 72, 68)), (0, (30, 4, 1.093, 136, 12, 8)), (1, (15, 4, 0, 74, 8, 4))]
)
def test_the_table_of_the_quadratic(k, known):
    cells = itertools.product(("loc", "scale"), ("score-function", "pathwise", "measure-valued"))
    found = [variance("quadratic", estimator, parameter, 1, 1, k) for parameter, estimator in cells]
    assert found == pytest.approx(known, rel=1e-3)


@pytest.mark.parametrize(
    ("cost", "k", "score", "path"),
    [
        ("cosine", 0.5, 0.4552, 0.0393),
        ("cosine", 1, 0.3240, 0.2677),
        ("cosine", 5, 0.50, 12.5),
        ("exponential", 0.1, 0.5635, 0.0163),
        ("exponential", 1, 0.1758, 0.2117),
        ("exponential", 10, 0.0769, 0.9416),
    ],
)
def test_the_crossover_where_pathwise_loses_to_the_score_function(cost, k, score, path):
    assert variance(cost, "score-function", "loc", 1, 1, k) == pytest.approx(score, abs=2e-3)
    assert variance(cost, "pathwise", "loc", 1, 1, k) == pytest.approx(path, abs=2e-3)


@pytest.mark.parametrize(("variant", "estimator"), [("reinforce", "score-function"), ("reparam", "pathwise")])
@pytest.mark.parametrize("cost", COSTS)
def test_registered_estimators_have_these_variances(cost, variant, estimator):
    """Fed with Gauss-Hermite nodes as noise, one replicate each: their moments are then exact."""
    m, s, k = 1.0, 1.5, 0.5
    nodes, masses = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(100))
    problem = toy(cost, k, m, s)
    x = torch.zeros(1, 1)
    params = {
        name: value.detach().expand(100, 1, 1).clone().requires_grad_() for name, value in problem.encode(x).items()
    }
    objective = problem.objective(params, x)
    objective.q.rsample = lambda shape: (params["loc"] + params["log_scale"].exp() * nodes.view(-1, 1, 1)).view(
        *shape, 100, 1, 1
    )
    objective.q.sample = lambda shape: objective.q.rsample(shape).detach()
    found = torch.autograd.grad(estimators.create(variant)(objective).sum(), list(params.values()))
    for gradient, parameter, chain in zip(found, ("loc", "scale"), (1.0, s), strict=True):
        mass, values = masses / masses.sum(), gradient.flatten()
        spread = float(mass @ (values - mass @ values).square())
        assert spread == pytest.approx(chain**2 * variance(cost, estimator, parameter, m, s, k), rel=1e-9)


def test_there_is_no_model_so_log_weight_is_the_integrand():
    params, objective = objective_of(toy("cosine", 0.5, dimensions=2))
    z = objective.q.sample((5,))
    torch.testing.assert_close(objective.log_weight(z), objective.f(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(objective.f(z), -(0.5 * z).cos().sum(-1), rtol=0, atol=1e-12)
    assert objective.kl().eq(0).all()
    assert all(gradient.eq(0).all() for gradient in torch.autograd.grad(objective.kl().sum(), list(params.values())))


def test_sticking_the_landing_is_reparameterization_where_there_is_no_model():
    problem = toy("quadratic", 0.5)
    gradients = []
    for variant in ("reparam", "stl"):
        params, objective = objective_of(problem)
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(estimators.create(variant)(objective).sum(), list(params.values())))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_the_elbo_curve_is_the_objective():
    """z-score over 500 x 200 draws, four standard errors."""
    problem = toy("quadratic", 0.5)
    x = torch.from_numpy(problem.data.test)[:500]
    exact = float(problem(x[:1]).exact().detach())
    # Var (z - k)^2 = 4 d^2 s^2 + 2 s^4 with d = 0.5, s = 1.
    error = math.sqrt((4 * 0.25 + 2) / (500 * 200))
    assert abs(measure.evaluate_elbo(problem, x, 200, seed=0).elbo - exact) < 4 * error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("cost=cubic", "cost"),
        ("scale=0", "scale"),
        ("cost=exponential,k=-1", r"cost=exponential takes k >= 0.*got -1"),
        ("dimensions=0", "dimensions"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(options, said):
    with pytest.raises(EstbenchError, match=said):
        problems.create(f"gaussian_toy[{options}]")
