"""Intervals and paired comparisons, on plain arrays. Every interval is two-sided, nominally 95 %."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
# With fewer than three values, a t interval is useless: no interval is given, and the report says so.
FEWEST_FOR_AN_INTERVAL = 3
# The exponential of a larger number is no float.
LARGEST_LOG = math.log(sys.float_info.max)


class Interval(NamedTuple):
    """An estimate, its interval and its number of values; the ends are NaN if there is no interval."""

    value: float
    low: float
    high: float
    n: int

    def exponential(self) -> Interval:
        """Return the interval of the exponential of what this one is of: a ratio from its logarithm."""
        value, low, high = (math.inf if x > LARGEST_LOG else math.exp(x) for x in (self.value, self.low, self.high))
        return Interval(value, low, high, self.n)

    def excludes(self, none: float) -> bool:
        """Whether there is an interval, and it does not contain ``none``, the value of "no difference"."""
        return self.low > none or self.high < none  # False for NaN ends


class Claim(NamedTuple):
    """An interval, and its two-sided p-value of "no difference": p < 0.05 if the interval does not contain that."""

    interval: Interval
    p: float


class MeanEstimate(NamedTuple):
    """The estimate of a mean, or of a difference of two, with its standard error and its degrees of freedom.

    ``n`` is the number of values, of two groups that of the smaller one. Error and degrees of freedom are NaN for fewer
    than three values.
    """

    value: float
    error: float
    degrees_of_freedom: float
    n: int

    def interval(self) -> Interval:
        """Return the t interval; its ends are NaN if there is none."""
        if math.isnan(self.error):
            return Interval(self.value, math.nan, math.nan, self.n)
        half = t_quantile(self.degrees_of_freedom) * self.error
        return Interval(self.value, self.value - half, self.value + half, self.n)

    def p_value(self) -> float:
        """Return the two-sided p-value of the t test that the mean is zero; NaN without an error."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stdtr(self.degrees_of_freedom, -abs(self.value) / self.error))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of the t test that the mean is at least ``bound``; NaN without an error."""
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        return float(stdtr(self.degrees_of_freedom, (self.value - bound) / self.error))


def t_quantile(degrees_of_freedom: float) -> float:
    """The factor of a standard error in a two-sided interval."""
    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))


def normal_quantile() -> float:
    """Return the factor of a standard error in a two-sided interval from many values."""
    return t_quantile(10**9)


def point_interval(value: float, n: int) -> Interval:
    """Return the interval of a number that is known without error: a largest |z|, an enumerated bias."""
    return Interval(value, value, value, n)


def t_interval(values: ArrayLike) -> Interval:
    """Mean of independent values with its t interval; no interval below three values."""
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(x.mean())
    if x.size < FEWEST_FOR_AN_INTERVAL:
        return Interval(mean, math.nan, math.nan, x.size)
    half = t_quantile(x.size - 1) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Interval(mean, mean - half, mean + half, x.size)


def log_t_interval(values: ArrayLike) -> Interval:
    """Return the geometric mean of positive values (variances, paired ratios) with a t interval on the log scale."""
    x = np.asarray(values, dtype=np.float64)
    if x.size and np.all(x > 0):
        logs = t_interval(np.log(x))
        return logs.exponential()
    # Zero has no logarithm: the arithmetic mean, without an interval.
    return Interval(float(x.mean()) if x.size else math.nan, math.nan, math.nan, x.size)


def paired_difference(ours: ArrayLike, reference: ArrayLike) -> Interval:
    """Return the mean of ``ours - reference`` over pairs (one per seed) with its t interval."""
    first, second = _pairs(ours, reference)
    return t_interval(first - second)


def paired_ratio(ours: ArrayLike, reference: ArrayLike) -> Interval:
    """Return the geometric mean of ``ours / reference`` over pairs, with its t interval on the log scale."""
    first, second = _pairs(ours, reference)
    if np.any(second == 0):
        return Interval(math.nan, math.nan, math.nan, first.size)
    return log_t_interval(first / second)


def _pairs(ours: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"pairs need two arrays of one shape, got {first.shape} and {second.shape}")
    return first, second


def mean_estimate(values: ArrayLike) -> MeanEstimate:
    """Return the mean of independent values, with n - 1 degrees of freedom."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < FEWEST_FOR_AN_INTERVAL:
        return MeanEstimate(float(x.mean()) if x.size else math.nan, math.nan, math.nan, x.size)
    return MeanEstimate(float(x.mean()), float(x.std(ddof=1)) / math.sqrt(x.size), x.size - 1, x.size)


def difference_estimate(ours: ArrayLike, theirs: ArrayLike) -> MeanEstimate:
    """Return the difference of the means of two independent groups of unequal variances (Welch, 1947).

    The squared error is v_1 + v_2 with v_i = s_i^2 / n_i, and the degrees of freedom are
    (v_1 + v_2)^2 / (v_1^2 / (n_1 - 1) + v_2^2 / (n_2 - 1)).

    >>> difference_estimate([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).degrees_of_freedom
    4.0
    """
    groups = [np.asarray(each, dtype=np.float64) for each in (ours, theirs)]
    fewest = min(x.size for x in groups)
    value = float(groups[0].mean() - groups[1].mean()) if fewest else math.nan
    if fewest < FEWEST_FOR_AN_INTERVAL:
        return MeanEstimate(value, math.nan, math.nan, fewest)
    shares = [float(x.var(ddof=1)) / x.size for x in groups]
    total = sum(shares)
    parts = sum(share**2 / (x.size - 1) for share, x in zip(shares, groups, strict=True))
    return MeanEstimate(value, math.sqrt(total), total**2 / parts if parts else float(fewest - 1), fewest)


def t_p_value(values: ArrayLike) -> float:
    """Return the two-sided p-value of the t test that the mean is zero; NaN for fewer than three values."""
    return mean_estimate(values).p_value()


def spanned_claim(low: ArrayLike, value: ArrayLike, high: ArrayLike) -> Claim:
    """Return the mean of differences that are known up to a span, ``low <= value <= high``, with its interval.

    The estimate is that of ``value``. The interval is from the lower end of the t interval of ``low`` to the upper end
    of that of ``high``: it includes the spread over seeds and the width of the spans, so it is at least as wide as the
    t interval of exact values. The p-value is that of the end nearer to zero.
    """
    lows, values, highs = (np.asarray(each, dtype=np.float64) for each in (low, value, high))
    middle, below, above = t_interval(values), t_interval(lows), t_interval(highs)
    if middle.n < FEWEST_FOR_AN_INTERVAL:
        return Claim(middle, math.nan)
    p = t_p_value(lows) if below.value > 0 else t_p_value(highs) if above.value < 0 else 1.0
    return Claim(Interval(middle.value, below.low, above.high, middle.n), p)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for their number (Holm, 1979), which bounds the family-wise error rate.

    Of m ordered p-values, the k-th becomes max over j <= k of min(1, (m - j + 1) p_(j)). A NaN stays NaN, and is not
    counted in m.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, math.nan)
    claims = np.flatnonzero(~np.isnan(p))
    ordered = claims[np.argsort(p[claims], kind="stable")]
    factors = np.arange(len(ordered), 0, -1)
    adjusted[ordered] = np.maximum.accumulate(np.minimum(1.0, factors * p[ordered]))
    return adjusted


def jackknife_interval(estimate: float, leave_one_out: NDArray[np.float64], *, log: bool = False) -> Interval:
    """Return the interval of a smooth statistic from its leave-one-out values, (R,); on the log scale if ``log``.

    se^2 = (R - 1) / R * sum_r (theta_(r) - mean theta_(.))^2 (Efron and Stein, 1981), with R - 1 degrees of freedom.
    """
    n = leave_one_out.size
    estimate = float(estimate)  # torch.load(weights_only=True) refuses a checkpoint with a NumPy scalar
    if log:
        if estimate <= 0 or np.any(leave_one_out <= 0):
            return Interval(estimate, 0.0 if estimate == 0 else math.nan, 0.0 if estimate == 0 else math.nan, n)
        logs = jackknife_interval(math.log(estimate), np.log(leave_one_out))
        return Interval(estimate, math.exp(logs.low), math.exp(logs.high), n)
    spread = float(np.sum((leave_one_out - leave_one_out.mean()) ** 2))
    half = t_quantile(n - 1) * math.sqrt((n - 1) / n * spread)
    return Interval(estimate, estimate - half, estimate + half, n)
