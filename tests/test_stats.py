"""Intervals against exact answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from estbench.stats import (
    Interval,
    jackknife_interval,
    log_t_interval,
    paired_difference,
    paired_ratio,
    t_interval,
    t_quantile,
)


def test_t_quantile_is_that_of_scipy():
    for degrees in (1, 2, 7, 99):
        assert t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-12)


def test_t_interval_of_three_values_by_hand():
    interval = t_interval([1.0, 2.0, 3.0])
    # mean 2, standard deviation 1, t(2) = 4.302652729911275
    half = 4.302652729911275 / math.sqrt(3)
    assert interval == pytest.approx((2.0, 2.0 - half, 2.0 + half, 3))


def test_t_interval_is_that_of_scipy():
    x = np.random.default_rng(0).normal(size=11)
    low, high = scipy.stats.t.interval(0.95, 10, loc=x.mean(), scale=scipy.stats.sem(x))
    assert t_interval(x) == pytest.approx((x.mean(), low, high, 11))


@pytest.mark.parametrize("values", [[5.0], [4.0, 6.0]])
def test_below_three_values_there_is_no_interval(values):
    interval = t_interval(values)
    assert interval.value == 5.0
    assert interval.n == len(values)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_no_values_give_nothing():
    for interval in (t_interval([]), log_t_interval([])):
        assert interval.n == 0
        assert math.isnan(interval.value)


def test_t_interval_covers_as_it_says():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 3))
    covered = np.mean([interval.low <= 0 <= interval.high for interval in map(t_interval, draws)])
    # Five standard errors of a binomial share.
    assert abs(covered - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 4000)


def test_log_t_interval_is_the_t_interval_of_the_logs():
    x = [0.1, 1.0, 10.0]
    interval = log_t_interval(x)
    half = t_quantile(2) * math.log(10) / math.sqrt(3)
    assert interval == pytest.approx((1.0, math.exp(-half), math.exp(half), 3))


def test_log_t_interval_of_a_zero_is_the_mean_without_ends():
    interval = log_t_interval([0.0, 1.0, 2.0])
    assert interval.value == 1.0
    assert interval.n == 3
    assert math.isnan(interval.low)


def test_jackknife_of_a_mean_is_its_t_interval():
    x = np.random.default_rng(2).normal(size=20)
    left = (x.sum() - x) / 19
    assert jackknife_interval(x.mean(), left) == pytest.approx(t_interval(x))


def test_jackknife_on_the_log_scale_is_multiplicative():
    left = np.array([1.0, 2.0, 4.0])
    plain = jackknife_interval(math.log(2.0), np.log(left))
    assert jackknife_interval(2.0, left, log=True) == pytest.approx((2.0, math.exp(plain.low), math.exp(plain.high), 3))


def test_jackknife_of_a_zero_variance_is_exactly_zero():
    assert jackknife_interval(0.0, np.zeros(4), log=True) == Interval(0.0, 0.0, 0.0, 4)


def test_paired_difference_cancels_what_pairs_share():
    shared = np.array([100.0, -50.0, 7.0, 0.0])
    ours = shared + np.array([1.0, 2.0, 3.0, 2.0])
    assert paired_difference(ours, shared) == pytest.approx(t_interval([1.0, 2.0, 3.0, 2.0]))


def test_paired_ratio_cancels_what_pairs_share():
    shared = np.array([1.0, 10.0, 1e3])
    interval = paired_ratio(2 * shared * np.array([0.5, 1.0, 2.0]), shared)
    assert interval == pytest.approx(log_t_interval([1.0, 2.0, 4.0]))
    assert interval.value == pytest.approx(2.0)


def test_paired_ratio_to_zero_is_nothing():
    interval = paired_ratio([1.0, 1.0], [0.0, 1.0])
    assert interval.n == 2
    assert math.isnan(interval.value)


def test_pairs_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="one shape"):
        paired_difference([1.0, 2.0], [1.0])
