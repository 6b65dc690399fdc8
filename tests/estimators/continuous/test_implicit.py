"""Implicit reparameterization: how exact torch's derivatives are, and what they give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import Beta, Gamma

from estbench import estimators
from estbench.certify import run_bias_tests, small_problems_for
from estbench.latents import IMPLICIT

# What the estimator's documentation claims: of one derivative, and of their average.
SINGLE, AVERAGE = 2e-3, 2e-4
DRAWS = 4000


def derivative(lower, upper, a, z):
    """-d(lower)/da, by central differences of fourth order; by the upper tail where it is the smaller one."""
    h = 1e-3 * a

    def slope(F):
        return (8 * (F(a + h, z) - F(a - h, z)) - (F(a + 2 * h, z) - F(a - 2 * h, z))) / (12 * h)

    return np.where(lower(a, z) > 0.5, slope(upper), -slope(lower))


def compared(found, exact):
    reliable = exact > 1e-150  # below it the density and the differences underflow
    assert reliable.mean() > 0.9
    found, exact = found[reliable], exact[reliable]
    assert np.abs(found / exact - 1).max() < SINGLE
    assert abs((found - exact).mean() / exact.mean()) < AVERAGE


@pytest.mark.parametrize("a", [0.05, 0.2, 0.5, 1.0, 1.5, 3.0, 7.9, 8.1, 20.0, 100.0, 1000.0])
def test_the_derivative_of_a_gamma_is_as_exact_as_documented(a):
    torch.manual_seed(0)
    concentration = torch.full((DRAWS,), a, dtype=torch.float64, requires_grad=True)
    z = Gamma(concentration, torch.ones_like(concentration)).rsample()
    (found,) = torch.autograd.grad(z.sum(), concentration)
    z = z.detach().numpy()
    compared(found.numpy(), derivative(special.gammainc, special.gammaincc, a, z) / stats.gamma.pdf(z, a))


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.1), (0.5, 3.0), (1.0, 1.0), (2.0, 3.0), (5.0, 5.0), (10.0, 30.0)])
def test_the_derivative_of_a_beta_is_as_exact_as_documented(a, b):
    torch.manual_seed(0)
    alpha = torch.full((DRAWS,), a, dtype=torch.float64, requires_grad=True)
    z = Beta(alpha, torch.full_like(alpha, b)).rsample()
    (found,) = torch.autograd.grad(z.sum(), alpha)
    z = z.detach().numpy()
    inside = (z > 1e-10) & (z < 1 - 1e-10)
    exact = derivative(
        lambda a, z: special.betainc(a, b, z), lambda a, z: special.betaincc(a, b, z), a, z[inside]
    ) / stats.beta.pdf(z[inside], a, b)
    compared(found.numpy()[inside], exact)


@pytest.mark.slow
@pytest.mark.parametrize("problem", small_problems_for(IMPLICIT, {"elbo"}), ids=lambda problem: problem.name)
def test_the_exact_gradient_is_within_the_error_of_sampling(problem):
    """A bias of AVERAGE is a hundredth of what the test is made to see, 2 %: it adds nothing to the false alarms."""
    tests = run_bias_tests(estimators.create("implicit"), problem, coordinates=12 * 10)
    assert all(test.unbiased for test in tests)


@pytest.mark.slow
@pytest.mark.parametrize("latents", sorted(IMPLICIT))
def test_the_score_function_agrees(latents):
    """It knows nothing of paths: an independent proof of the problems' exact gradients."""
    problem = small_problems_for({latents}, {"elbo"})[0]
    tests = run_bias_tests(estimators.create("rloo[num_samples=4]"), problem, coordinates=4 * 10)
    assert all(test.unbiased for test in tests)
