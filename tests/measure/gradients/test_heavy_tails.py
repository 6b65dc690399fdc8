"""The interval of a mean of skewed values covers what it says, where it says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from estbench.measure.gradients.heavy_tails import effective_number, skewed_mean_interval


def score_function(rng, replicates, location):
    """Gradient of E[-(z - d)^2 / 2] at the mean of z ~ N(0, 1), d = -location: -(location + eps)^2 eps / 2."""
    noise = rng.standard_normal(replicates)
    return -0.5 * (location + noise) ** 2 * noise


def its_variance(location):
    return (location**4 + 18 * location**2 + 15) / 4 - location**2


def deviations(gradients):
    return (gradients - gradients.mean()) ** 2 * len(gradients) / (len(gradients) - 1)


def coverage(draw, variance, experiments):
    """The share of intervals that hold the known variance."""
    inside = 0
    for _ in range(experiments):
        interval = skewed_mean_interval(draw())
        inside += interval.low <= variance <= interval.high
    return inside / experiments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "replicates"),
    [
        ("normal", 50),
        ("normal", 100),
        ("normal", 1000),
        ("student", 100),
        ("student", 1000),
        ("score", 100),
        ("score", 300),
        ("score", 1000),
        ("minibatch", 50),
        ("minibatch", 100),
        ("minibatch", 1000),
        ("scale", 300),
        ("scale", 1000),
    ],
)
def test_a_nominal_95_percent_covers_92_to_98(law, replicates):
    """4,000 experiments each; the error of a coverage of 95 % is then 0.35 %.

    ``score`` is plain REINFORCE on one coordinate of one example, whose squared deviations have a kurtosis in the
    hundreds; ``scale`` is the same for the scale of the normal, a polynomial of degree 4 in the noise, which needs 300
    replicates; ``minibatch`` is the sum over ten such examples. A log-scale jackknife covers 80 to 92 % of ``score``
    and ``scale``.
    """
    rng = np.random.default_rng(5)
    locations = rng.standard_normal(10)
    polynomial = np.polynomial.polynomial
    product = -0.5 * polynomial.polymul(polynomial.polymul([1, 1], [1, 1]), [-1, 0, 1])

    def expectation(coefficients):
        return sum(c * (stats.norm.moment(k) if k else 1) for k, c in enumerate(coefficients))

    laws = {
        "normal": (lambda: deviations(rng.standard_normal(replicates)), 1.0),
        "student": (lambda: deviations(rng.standard_t(5, replicates)), 5 / 3),
        "score": (lambda: deviations(score_function(rng, replicates, 1.0)), its_variance(1.0)),
        "minibatch": (
            lambda: sum(deviations(score_function(rng, replicates, location)) for location in locations),
            sum(its_variance(location) for location in locations),
        ),
        "scale": (
            lambda: deviations(polynomial.polyval(rng.standard_normal(replicates), product)),
            expectation(polynomial.polymul(product, product)) - expectation(product) ** 2,
        ),
    }
    assert 0.92 <= coverage(*laws[law], 4000) <= 0.98


def test_the_interval_of_light_tails_is_the_usual_one():
    """Without skewness, the t interval on the log scale, with n_eff - 1 degrees of freedom."""
    y = np.tile([0.9, 1.0, 1.1], 200)
    found = skewed_mean_interval(y)
    error = y.std() / math.sqrt(len(y) - 1)
    quantile = stats.t.ppf(0.975, effective_number(y) - 1)
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(math.exp(-quantile * error))
    assert found.high == pytest.approx(math.exp(quantile * error))
    assert found.n == 600


def test_skewness_moves_the_upper_end_out():
    y = np.array([1.0] * 95 + [30.0] * 5)
    found = skewed_mean_interval(y)
    assert found.high / found.value > 1.15 * found.value / found.low


def test_ends_are_there_only_where_they_mean_something():
    assert skewed_mean_interval(np.zeros(5))[:3] == (0.0, 0.0, 0.0)
    assert skewed_mean_interval(np.full(5, 2.0))[:3] == (2.0, 2.0, 2.0)
    few = skewed_mean_interval(np.array([1.0, 3.0]))
    assert few.value == 2.0
    assert math.isnan(few.low)
    assert math.isnan(few.high)


def test_effective_numbers():
    assert effective_number(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_number(np.array([0.0, 0.0, 5.0])) == 1
    assert effective_number(np.zeros(4)) == 4
