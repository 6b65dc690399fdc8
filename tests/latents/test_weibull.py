"""Weibull latents: density, draws, path and KL, against scipy, quadrature and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.z_scores import largest_z, z_of_mean
from scipy import integrate, special, stats

from estbench.latents import WeibullLatents, closed_form_kl

LATENTS = WeibullLatents(1)
PLACES = [(0.0, 0.0), (0.7, -0.4), (-0.5, 0.3), (1.5, 1.0)]  # log concentration and log scale


def params(log_concentration, log_scale):
    values = {"log_concentration": log_concentration, "log_scale": log_scale}
    return {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}


def scipys(log_concentration, log_scale):
    return stats.weibull_min(math.exp(log_concentration), scale=math.exp(log_scale))


@pytest.mark.parametrize("place", PLACES)
def test_the_density_and_the_mean_are_those_of_scipy(place):
    q, z = LATENTS.family(params(*place)), np.array([1e-6, 0.3, 1.0, 4.0])
    torch.testing.assert_close(q.log_prob(torch.from_numpy(z)[:, None]), torch.from_numpy(scipys(*place).logpdf(z)))
    assert float(q.mean) == pytest.approx(scipys(*place).mean(), rel=1e-12)


@pytest.mark.parametrize("place", PLACES)
def test_draws_have_the_distribution_and_its_path(place):
    """n = 20,000; the distribution function of a draw is uniform, and does not move with the parameters."""
    leaves = {name: value.requires_grad_() for name, value in params(*place).items()}
    torch.manual_seed(0)
    z = LATENTS.family(leaves).rsample((20_000,))
    assert stats.kstest(scipys(*place).cdf(z.detach().numpy()[:, 0]), "uniform").pvalue > 1e-4
    concentration, log_scale = leaves["log_concentration"].exp(), leaves["log_scale"]
    uniform = -torch.expm1(-(concentration * (z.log() - log_scale)).exp())
    for gradient in torch.autograd.grad(uniform.sum(), list(leaves.values())):
        assert float(gradient.abs().max()) < 1e-8


def test_draws_of_tiny_concentrations_stay_positive_and_finite():
    q = LATENTS.family({name: value.float() for name, value in params(-5.0, 0.0).items()})
    torch.manual_seed(0)
    z = q.sample((10_000,))
    assert 0 < float(z.min()) <= float(z.max()) < math.inf
    assert q.log_prob(z).isfinite().all()


@pytest.mark.parametrize("prior", PLACES)
@pytest.mark.parametrize("place", PLACES)
def test_the_kl_is_that_by_quadrature(place, prior):
    """Over log y with y ~ Exp(1)."""
    q, p, k, s = scipys(*place), scipys(*prior), math.exp(place[0]), math.exp(place[1])

    def integrand(g):
        z = s * math.exp(g / k)
        return math.exp(g - math.exp(g)) * (q.logpdf(z) - p.logpdf(z))

    expected, _ = integrate.quad(integrand, -60, 5, limit=500, epsabs=1e-12, epsrel=1e-12)
    found = LATENTS.kl(params(*place), params(*prior))
    assert float(found) == pytest.approx(expected, rel=1e-8, abs=1e-9)
    both = (LATENTS.family(params(*each)) for each in (place, prior))
    torch.testing.assert_close(closed_form_kl(*both), found)


def test_moments_of_many_draws():
    q = LATENTS.family(params(0.7, -0.4))
    torch.manual_seed(1)
    z = q.sample((100_000,))
    for power in (1, 2):
        expected = math.exp(-0.4 * power) * special.gamma(1 + power * math.exp(-0.7))
        assert float(z_of_mean(z**power, expected).abs().max()) < largest_z(2)
