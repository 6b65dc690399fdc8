"""Intervals and paired comparisons, on plain arrays. Every interval is two-sided, nominally 95 %."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
# Below three seeds a t interval says nothing: no interval is given, and the report says so.
FEWEST_FOR_AN_INTERVAL = 3


class Interval(NamedTuple):
    """An estimate, its interval and the number of values behind it; NaN ends where no interval can be given."""

    value: float
    low: float
    high: float
    n: int


def t_quantile(degrees_of_freedom: int) -> float:
    """The factor of a standard error in a two-sided interval."""
    return float(stdtrit(degrees_of_freedom, 0.5 + CONFIDENCE / 2))


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
