"""The exact gradient of the multi-sample bound, and the card that rests on it."""

from __future__ import annotations

import pytest

from estbench.reproduce.measurements import measure
from estbench.reproduce.measurements.importance_bias import exact_gradient, one_latent

SETTINGS = {"x": 1.3, "loc": 0.2, "scale": 0.8, "k": [3], "replicates": 20_000}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_exact_gradient_is_that_of_quadrature_over_all_samples(k):
    setting = one_latent(1.3, 0.2, 0.8, k)
    by_grid = {name: float(gradient) for name, gradient in setting.exact_gradient().items() if name in setting.params}
    assert exact_gradient(setting) == pytest.approx(by_grid, rel=1e-6)


def test_one_sample_is_the_elbo_in_closed_form():
    # dL/dloc = x - 2 loc, and dL/dlog scale = 1 - 2 scale^2.
    assert exact_gradient(one_latent(1.3, 0.2, 0.8, 1)) == pytest.approx({"loc": 0.9, "log_scale": -0.28}, rel=1e-10)


def test_a_biased_mean_is_told_from_an_unbiased_one():
    pair = ["dreg", "stl-iwae"]
    found = measure("importance_bias", {**SETTINGS, "estimators": pair, "compare": pair})
    biased = found.quantities["stl-iwae, K = 3, loc: mean / exact"]
    unbiased = found.quantities["dreg, K = 3, loc: mean / exact"]
    assert biased.low > 1.02
    # Four standard errors: a false alarm in 16,000, and the seed is fixed.
    assert abs(unbiased.value - 1) < 4 / 1.96 * (unbiased.high - unbiased.value)
    assert {point["panel"] for point in found.points} == {"d/d loc", "d/d log_scale"}


def test_the_ratio_of_variances_is_by_parameter():
    found = measure("importance_bias", {**SETTINGS, "estimators": ["dreg", "iwae"], "compare": ["dreg", "iwae"]})
    assert found.quantities["K = 3, loc: variance of dreg / iwae"].high < 1
