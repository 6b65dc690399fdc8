"""The measure-valued gradient: its variance in closed form and by quadrature, its coupling, its draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.gaussian_toy import columns, make_leaves, make_objective, sample_toy
from oracles.z_scores import largest_z, z_of_mean, z_of_variance
from scipy import stats

from estbench import estimators
from estbench.certify import run_bias_tests, small_problems_for

N = 100_000


def test_the_variance_on_quadratics_is_the_closed_form():
    """(16 / pi - 4) d^2 for the mean, and s^2 (4 d^2 + 4 s^2) for log s."""
    m, s, k = columns()
    d = m - k
    found = sample_toy("measure-valued", N)
    for name, expected in {"loc": (16 / math.pi - 4) * d**2, "log_scale": s**2 * (4 * d**2 + 4 * s**2)}.items():
        assert float(z_of_variance(found[name][..., 0], expected).abs().max()) < largest_z(6)


def test_the_coupled_phases_of_the_mean_have_no_variance_where_f_is_even_about_it():
    rows = ((1.0, 1.3, 1.0), (-2.0, 0.4, -2.0))
    found = sample_toy("measure-valued", 1000, rows=rows)
    assert float(found["loc"].abs().max()) < 1e-12
    assert float(found["log_scale"].var(0).min()) > 0.1


def phases(cost, m, s, k):
    """First and second moments of both gradients for D = 1: midpoints in the distribution functions of W, M and U."""
    u = (np.arange(1000) + 0.5) / 1000
    f = {"cosine": lambda z: np.cos(k * z), "exponential": lambda z: np.exp(-k * z**2)}[cost]
    w = stats.weibull_min.ppf(u, 2, scale=math.sqrt(2))
    loc = (f(m + s * w) - f(m - s * w)) / (math.sqrt(2 * math.pi) * s)
    maxwell = stats.maxwell.ppf(u)[:, None]
    maxwell = np.concatenate([-maxwell, maxwell])
    scale = f(m + s * maxwell) - f(m + s * maxwell * u)  # with respect to log s
    return {"loc": loc, "log_scale": scale}


@pytest.mark.parametrize("cost", ["cosine", "exponential"])
def test_mean_and_variance_elsewhere_are_those_by_quadrature(cost):
    rows = ((1.0, 1.0, 0.5), (-0.4, 0.8, 2.0), (0.3, 0.6, 1.0))
    found = sample_toy("measure-valued", N, cost=cost, rows=rows)
    for name, drawn in found.items():
        if name == "k":
            continue
        moments = [phases(cost, *row)[name] for row in rows]
        mean, variance = (torch.tensor([getattr(values, moment)() for values in moments]) for moment in ("mean", "var"))
        assert float(z_of_mean(drawn[..., 0], mean).abs().max()) < largest_z(12)
        assert float(z_of_variance(drawn[..., 0], variance).abs().max()) < largest_z(12)


def test_other_coordinates_are_shared_by_the_phases_and_the_decoder_sees_draws_from_q():
    """4 D points: in the i-th of a phase coordinate i is its own. Those that carry a gradient are distributed as q."""
    estimator = estimators.create("measure-valued")
    parts = make_leaves(20_000, latents=3)
    seen = []
    problem = make_objective(parts)
    inner = problem._log_likelihood
    problem._log_likelihood = lambda z: seen.append(z) or inner(z)
    torch.manual_seed(1)
    estimator(problem)
    assert problem.evaluations == 4 * 3 * 20_000 * 3 == estimator.count_evaluations(problem) * 20_000 * 3
    m, s = parts["loc"].detach(), parts["log_scale"].detach().exp()
    others, normal = ((z - m) / s for z in seen)
    assert others.shape == (9, 20_000, 3, 3)
    points = torch.cat([others, normal]).view(4, 3, 20_000, 3, 3)
    for i in range(3):
        rest = [j for j in range(3) if j != i]
        shared = points[:, i][..., rest]
        torch.testing.assert_close(shared, shared[:1].expand(4, -1, -1, -1), rtol=0, atol=1e-12)
        assert points[:, i][..., i].unique().numel() == 4 * 20_000 * 3
    # The D points of N: standard normal to the fourth moment, coordinates uncorrelated.
    for i in range(3):
        for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
            z = z_of_mean(normal[i] ** power, expected)
            assert float(z.abs().max()) < largest_z(3 * (4 * 9 + 9))
        products = torch.stack([normal[i][..., a] * normal[i][..., b] for a, b in ((0, 1), (0, 2), (1, 2))], -1)
        assert float(z_of_mean(products, 0.0).abs().max()) < largest_z(3 * (4 * 9 + 9))


def test_with_a_sampled_kl_the_density_of_q_inside_f_is_held():
    """f contains -log q: its direct gradient has mean zero and is left out."""
    parts = make_leaves(5)
    problem = make_objective(parts, kl="sampled")
    torch.manual_seed(2)
    surrogate = estimators.create("measure-valued")(problem)
    (loc,) = torch.autograd.grad(surrogate.sum(), parts["loc"], retain_graph=True)
    torch.manual_seed(2)
    m, s, k = (parts[name].detach() for name in ("loc", "log_scale", "k"))
    torch.randn_like(m)
    w = (2 * torch.empty_like(m).exponential_()).sqrt()

    def f(z):
        normal = torch.distributions.Normal(m, s.exp())
        return (z - k).square() + torch.distributions.Normal(0.0, 1.0).log_prob(z) - normal.log_prob(z)

    expected = (f(m + s.exp() * w) - f(m - s.exp() * w)) / (math.sqrt(2 * math.pi) * s.exp())
    torch.testing.assert_close(loc, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("problem", small_problems_for({"normal"}, {"elbo"}), ids=lambda problem: problem.name)
def test_the_mean_is_the_exact_gradient_for_coupled_latents(problem):
    tests = run_bias_tests(estimators.create("measure-valued"), problem, coordinates=36)
    assert all(test.unbiased for test in tests)
    assert all(test.detectable < 0.02 for test in tests)
