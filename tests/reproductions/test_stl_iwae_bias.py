"""The exact gradient of the multi-sample bound, and the card that rests on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shipped_studies import load

STUDY = load("stl_iwae_bias")
OPTIONS = {"x": 1.3, "loc": 0.2, "scale": 0.8, "k": [3], "replicates": 20_000}


def by_quadrature(problem):
    """The gradient of E log (1/K) sum_k w_k, summed over a Gauss-Hermite grid of all K samples."""
    count, leaves = problem.importance_samples, problem.leaves()
    nodes, masses = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(48))
    noise = torch.cartesian_prod(*[nodes] * count).view(-1, count).T.reshape(-1, 1, 1)
    probability = torch.cartesian_prod(*[masses / masses.sum()] * count).view(-1, count).prod(1)
    z = leaves["loc"] + leaves["log_scale"].exp() * noise
    log_weights = problem.objective(leaves, problem.x).log_weight(z).view(count, -1)
    bound = probability @ (log_weights.logsumexp(0) - math.log(count))
    return dict(zip(leaves, map(float, torch.autograd.grad(bound, list(leaves.values()))), strict=True))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_exact_gradient_is_that_of_quadrature_over_all_samples(k):
    problem = STUDY.one_latent(1.3, 0.2, 0.8, k)
    assert STUDY.exact_gradient(problem) == pytest.approx(by_quadrature(problem), rel=1e-6)


def test_one_sample_is_the_elbo_in_closed_form():
    # dL/dloc = x - 2 loc, and dL/dlog scale = 1 - 2 scale^2.
    exact = STUDY.exact_gradient(STUDY.one_latent(1.3, 0.2, 0.8, 1))
    assert exact == pytest.approx({"loc": 0.9, "log_scale": -0.28}, rel=1e-10)


def test_a_biased_mean_is_told_from_an_unbiased_one():
    pair = ["dreg", "stl-iwae"]
    result = STUDY.stl_iwae_bias({**OPTIONS, "estimators": pair, "compare": pair})
    biased = result.quantities["stl-iwae, K = 3, loc: mean / exact"]
    unbiased = result.quantities["dreg, K = 3, loc: mean / exact"]
    assert biased.low > 1.02
    # Four standard errors: a false alarm in 16,000, and the seed is fixed.
    assert abs(unbiased.value - 1) < 4 / 1.96 * (unbiased.high - unbiased.value)
    parameters = ("loc", "log_scale")
    drawn = {f"{kind}, d/d {name}" for kind in ("bias", "noise") for name in parameters}
    assert {point["panel"] for point in result.points} == set(result.panels) == drawn


def test_the_ratio_of_variances_is_by_parameter():
    result = STUDY.stl_iwae_bias({**OPTIONS, "estimators": ["dreg", "iwae"], "compare": ["dreg", "iwae"]})
    assert result.quantities["K = 3, loc: variance of dreg / iwae"].high < 1
