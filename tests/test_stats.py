"""Intervals against exact answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from estbench.stats import (
    Interval,
    difference_estimate,
    holm,
    jackknife_interval,
    log_t_interval,
    mean_estimate,
    normal_quantile,
    paired_difference,
    paired_ratio,
    point_interval,
    spanned_claim,
    t_interval,
    t_p_value,
    t_quantile,
)


def test_t_quantile_is_that_of_scipy():
    for degrees in (1, 2, 7, 99):
        assert t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-12)


def test_many_values_have_the_quantile_of_the_normal_law():
    assert normal_quantile() == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-7)
    assert point_interval(0.5, 3) == (0.5, 0.5, 0.5, 3)


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


def test_an_interval_excludes_what_lies_outside_it():
    assert Interval(2.0, 1.0, 3.0, 3).excludes(0)
    assert Interval(-2.0, -3.0, -1.0, 3).excludes(0)
    assert not Interval(1.0, -1.0, 3.0, 3).excludes(0)
    assert not t_interval([5.0, 6.0]).excludes(0)  # there is none


def test_t_p_value_is_that_of_scipy_and_agrees_with_the_interval():
    rng = np.random.default_rng(3)
    for x in rng.normal(0.7, 1, size=(50, 5)):
        assert t_p_value(x) == pytest.approx(scipy.stats.ttest_1samp(x, 0).pvalue)
        assert (t_p_value(x) < 0.05) == t_interval(x).excludes(0)
    assert math.isnan(t_p_value([1.0, 2.0]))
    assert t_p_value([0.0, 0.0, 0.0]) == 1
    assert t_p_value([2.0, 2.0, 2.0]) == 0


def test_holm_by_hand():
    # Ordered: 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1, and never falling.
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_does_not_count_what_is_no_claim():
    adjusted = holm([math.nan, 0.02, math.nan, 0.03])
    assert np.isnan(adjusted[[0, 2]]).all()
    assert adjusted[[1, 3]] == pytest.approx([0.04, 0.04])


def test_a_span_without_width_is_the_t_interval():
    x = np.random.default_rng(4).normal(1, 1, 6)
    claim = spanned_claim(x, x, x)
    assert claim.interval == pytest.approx(t_interval(x))
    assert claim.p == pytest.approx(t_p_value(x))


def test_the_p_value_of_a_span_agrees_with_its_interval():
    rng = np.random.default_rng(5)
    for x in rng.normal(1.5, 1, size=(100, 4)):
        below, above = rng.uniform(0, 1, (2, 4))
        claim = spanned_claim(x - below, x, x + above)
        exact = t_interval(x)
        assert claim.interval.value == pytest.approx(exact.value)
        assert (claim.p < 0.05) == claim.interval.excludes(0)


def test_spans_that_leave_the_sign_open_are_no_difference():
    claim = spanned_claim([-1.0] * 3, [0.5] * 3, [1.0] * 3)
    assert claim.p == 1
    assert claim.interval == pytest.approx((0.5, -1.0, 1.0, 3))
    assert math.isnan(spanned_claim([0.0, 0.0], [1.0, 1.0], [2.0, 2.0]).interval.low)


# How often the intervals that the report prints cover: 4,000 simulated experiments each.
EXPERIMENTS = 4000


def assert_share(found, expected):
    """A binomial share within five standard errors: a false alarm in less than one of a million."""
    assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / EXPERIMENTS)


def assert_share_at_least(found, expected):
    assert found > expected - 5 * math.sqrt(expected * (1 - expected) / EXPERIMENTS)


def covers(interval, truth):
    return interval.low <= truth <= interval.high


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_difference_covers_as_it_says(seeds):
    rng = np.random.default_rng([10, seeds])
    shared = rng.normal(-120, 5, (EXPERIMENTS, seeds))
    ours, theirs = shared + 1.5 + rng.normal(0, 0.8, shared.shape), shared + rng.normal(0, 0.3, shared.shape)
    assert_share(np.mean([covers(paired_difference(*pair), 1.5) for pair in zip(ours, theirs, strict=True)]), 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_ratio_of_variances_covers_as_it_says(seeds):
    """Each seed has a true variance of its own, and a probe of 100 draws in 30 dimensions estimates it."""
    rng = np.random.default_rng([11, seeds])
    shape = (EXPERIMENTS, seeds)
    shared, freedom = rng.normal(0, 1, shape), 99 * 30
    ours = 7.0 * np.exp(shared + rng.normal(0, 0.2, shape)) * rng.chisquare(freedom, shape) / freedom
    theirs = np.exp(shared + rng.normal(0, 0.1, shape)) * rng.chisquare(freedom, shape) / freedom
    assert_share(np.mean([covers(paired_ratio(*pair), 7.0) for pair in zip(ours, theirs, strict=True)]), 0.95)


@pytest.mark.slow
def test_throughput_ratio_covers_as_it_says_while_the_machine_drifts():
    rng = np.random.default_rng(12)
    shape = (EXPERIMENTS, 8)
    drift = np.cumsum(rng.normal(0, 0.2, shape), axis=1)
    ours, theirs = (scale * np.exp(drift + rng.normal(0, 0.03, shape)) for scale in (1.8, 1.0))
    assert_share(np.mean([covers(paired_ratio(*pair), 1.8) for pair in zip(ours, theirs, strict=True)]), 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spacing", [0.01, 0.3, 1.0, 3.0])
def test_spanned_difference_covers_at_least_as_it_says(seeds, spacing):
    """Exact values are seen only as lying between two points of a grid."""
    rng = np.random.default_rng([13, seeds, round(100 * spacing)])
    exact = rng.normal(rng.uniform(5, 9, (EXPERIMENTS, 1)), 1, (EXPERIMENTS, seeds))
    truth = 2.0
    ours, theirs = exact + truth + rng.normal(0, 0.3, exact.shape), exact + rng.normal(0, 0.3, exact.shape)
    low, high = (spacing * np.floor(ours / spacing), spacing * np.ceil(ours / spacing))
    under, over = (spacing * np.floor(theirs / spacing), spacing * np.ceil(theirs / spacing))
    spans = zip(low - over, (low + high - under - over) / 2, high - under, strict=True)
    covered = np.mean([covers(spanned_claim(*span).interval, truth) for span in spans])
    assert_share_at_least(covered, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize(("estimators", "different"), [(2, 0), (6, 0), (6, 3)])
def test_holm_keeps_the_chance_of_any_false_claim(estimators, different):
    """Among all pairs of ``estimators``; the first ``different`` of them are far from the others and each other."""
    rng = np.random.default_rng([14, estimators, different])
    means = np.array([10.0 * (at + 1) if at < different else 0.0 for at in range(estimators)])
    pairs = [(i, j) for i in range(estimators) for j in range(i)]
    null = np.array([means[i] == means[j] for i, j in pairs])
    wrong, uncorrected = 0, 0
    for _ in range(EXPERIMENTS):
        values = rng.normal(size=(5, 1)) + means + rng.normal(0, 0.5, (5, estimators))
        p = np.array([t_p_value(values[:, i] - values[:, j]) for i, j in pairs])
        wrong += bool((holm(p)[null] <= 0.05).any())
        uncorrected += bool((p[null] <= 0.05).any())
    assert wrong / EXPERIMENTS < 0.05 + 5 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
    if estimators == 2:
        assert_share(wrong / EXPERIMENTS, 0.05)
    else:
        assert uncorrected > 1.5 * wrong  # the correction is needed, and does something


def test_an_estimate_of_a_mean_has_the_tests_of_scipy():
    x = np.random.default_rng(3).normal(0.4, 1.0, 7)
    estimate = mean_estimate(x)
    assert estimate.interval() == pytest.approx(t_interval(x))
    assert estimate.p_value() == pytest.approx(scipy.stats.ttest_1samp(x, 0).pvalue)
    assert estimate.p_below(0.9) == pytest.approx(scipy.stats.ttest_1samp(x, 0.9, alternative="less").pvalue)


def test_a_difference_of_two_groups_is_welchs():
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(1.0, 3.0, 5), rng.normal(0.0, 0.5, 9)
    estimate, expected = difference_estimate(ours, theirs), scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    assert estimate.p_value() == pytest.approx(expected.pvalue)
    assert estimate.degrees_of_freedom == pytest.approx(expected.df)
    low, high = expected.confidence_interval()
    assert estimate.interval() == pytest.approx((ours.mean() - theirs.mean(), low, high, 5))
    less = scipy.stats.ttest_ind(ours - 2.0, theirs, equal_var=False, alternative="less")
    assert estimate.p_below(2.0) == pytest.approx(less.pvalue)


def test_estimates_without_spread_or_with_too_few_values():
    exact = mean_estimate([2.0, 2.0, 2.0])
    assert (exact.p_value(), exact.p_below(3.0), exact.p_below(2.0)) == (0.0, 0.0, 1.0)
    assert mean_estimate([0.0, 0.0, 0.0]).p_value() == 1.0
    assert difference_estimate([2.0] * 3, [1.0] * 3).p_value() == 0.0
    for few in (mean_estimate([]), mean_estimate([1.0, 2.0]), difference_estimate([1.0, 2.0], [1.0, 2.0, 3.0])):
        assert math.isnan(few.p_value())
        assert math.isnan(few.p_below(0.0))
        assert math.isnan(few.interval().low)
