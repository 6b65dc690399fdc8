"""Intervals and paired comparisons, on plain arrays. Every interval is two-sided, nominally 95 %."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
# Below three seeds a t interval says nothing: no interval is given, and the report says so.
FEWEST_FOR_AN_INTERVAL = 3


class Interval(NamedTuple):
    """An estimate, its interval and the number of values behind it; NaN ends where no interval can be given."""

    value: float
    low: float
    high: float
    n: int

    def excludes(self, none: float) -> bool:
        """Whether the interval is there and leaves out ``none``, the value that means "no difference"."""
        return self.low > none or self.high < none  # False for NaN ends


class Claim(NamedTuple):
    """An interval, and the two-sided p-value of "no difference" that goes with it: p < 0.05 where it is left out."""

    interval: Interval
    p: float


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
    """Geometric mean of positive values (variances, paired ratios) with a t interval on the log scale."""
    x = np.asarray(values, dtype=np.float64)
    if x.size and np.all(x > 0):
        logs = t_interval(np.log(x))
        return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.n)
    # A zero variance has no logarithm; its mean still means something.
    return Interval(float(x.mean()) if x.size else math.nan, math.nan, math.nan, x.size)


def paired_difference(ours: ArrayLike, reference: ArrayLike) -> Interval:
    """Mean of ``ours - reference`` over pairs (one per seed) with its t interval; what both share cancels."""
    first, second = _pairs(ours, reference)
    return t_interval(first - second)


def paired_ratio(ours: ArrayLike, reference: ArrayLike) -> Interval:
    """Geometric mean of ``ours / reference`` over pairs of positive values with its t interval on the log scale."""
    first, second = _pairs(ours, reference)
    if np.any(second == 0):
        return Interval(math.nan, math.nan, math.nan, first.size)
    return log_t_interval(first / second)


def _pairs(ours: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"pairs need two arrays of one shape, got {first.shape} and {second.shape}")
    return first, second


def t_p_value(values: ArrayLike) -> float:
    """Two-sided p-value of the t test that the mean is zero; NaN below three values, as there is no interval."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < FEWEST_FOR_AN_INTERVAL:
        return math.nan
    mean, error = float(x.mean()), float(x.std(ddof=1)) / math.sqrt(x.size)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(x.size - 1, -abs(mean) / error))


def spanned_claim(low: ArrayLike, value: ArrayLike, high: ArrayLike) -> Claim:
    """Mean of differences that are each known to lie in a span, ``low <= value <= high``.

    The estimate is that of ``value``. The interval runs from the lower end of the t interval of ``low`` to the upper
    end of that of ``high``: it holds both the spread over seeds and what the spans leave open, so it can only be
    wider than the t interval of exact values. The p-value is that of the end nearer to zero.
    """
    lows, values, highs = (np.asarray(each, dtype=np.float64) for each in (low, value, high))
    middle, below, above = t_interval(values), t_interval(lows), t_interval(highs)
    if middle.n < FEWEST_FOR_AN_INTERVAL:
        return Claim(middle, math.nan)
    p = t_p_value(lows) if below.value > 0 else t_p_value(highs) if above.value < 0 else 1.0
    return Claim(Interval(middle.value, below.low, above.high, middle.n), p)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted for their number (Holm, 1979): rejecting those below 0.05 errs at all in 5 % of families.

    Of m ordered p-values, the k-th becomes max over j <= k of min(1, (m - j + 1) p_(j)). NaN is no claim: it stays NaN
    and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, math.nan)
    claims = np.flatnonzero(~np.isnan(p))
    ordered = claims[np.argsort(p[claims], kind="stable")]
    factors = np.arange(len(ordered), 0, -1)
    adjusted[ordered] = np.maximum.accumulate(np.minimum(1.0, factors * p[ordered]))
    return adjusted


def jackknife_interval(estimate: float, leave_one_out: NDArray[np.float64], *, log: bool = False) -> Interval:
    """Interval of a smooth statistic from its leave-one-out values, shape (R,); on the log scale for a variance.

    se^2 = (R - 1) / R * sum_r (theta_(r) - mean theta_(.))^2 (Efron and Stein, 1981), with R - 1 degrees of freedom.
    """
    n = leave_one_out.size
    estimate = float(estimate)  # a NumPy scalar would make every checkpoint unreadable to weights_only
    if log:
        if estimate <= 0 or np.any(leave_one_out <= 0):
            return Interval(estimate, 0.0 if estimate == 0 else math.nan, 0.0 if estimate == 0 else math.nan, n)
        logs = jackknife_interval(math.log(estimate), np.log(leave_one_out))
        return Interval(estimate, math.exp(logs.low), math.exp(logs.high), n)
    spread = float(np.sum((leave_one_out - leave_one_out.mean()) ** 2))
    half = t_quantile(n - 1) * math.sqrt((n - 1) / n * spread)
    return Interval(estimate, estimate - half, estimate + half, n)
