r"""An interval for a mean of skewed, positive values, such as the squared deviations that a variance is the mean of.

A score-function gradient is a product of an integrand and a score, so its squared deviations y_r have tails so heavy
that a handful of R replicates carries the estimate. A t interval, on any scale, then covers far less than it says. Two
corrections together hold 95 %:

* the quantile is that of Student's t with n_eff - 1 degrees of freedom, where n_eff = (sum y)^2 / sum y^2 is Kish's
  effective number of replicates;
* the upper end is corrected for skewness g by Hall's cubic transformation (Hall, 1992, *On the removal of skewness by
  transformation*): with T(u) = sqrt(R) / a ((1 + 3 a (u / sqrt(R) - b / R))^{1/3} - 1), a = g / 3, b = g / 6, it is
  ybar - sd / sqrt(R) T(-t).

The lower end is that of the t interval on the log scale, which cannot fall below zero.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from estbench.stats import CONFIDENCE, Interval

# With fewer, the draws at hand have hardly seen the tail that decides the mean.
FEWEST_EFFECTIVE = 10


def effective_number(y: NDArray[np.float64]) -> float:
    """Kish's (sum y)^2 / sum y^2: R for equal values, 1 where one value is all."""
    squares = float(y @ y)
    return float(y.sum()) ** 2 / squares if squares else float(y.size)


def skewed_mean_interval(y: NDArray[np.float64]) -> Interval:
    """Mean of positive independent values, (R,), with its two-sided 95 % interval; no ends below three values."""
    count, mean = y.size, float(y.mean())
    if mean <= 0:
        return Interval(mean, mean, mean, count)
    if count < 3:
        return Interval(mean, math.nan, math.nan, count)
    deviation = float(y.std())
    if deviation == 0:
        return Interval(mean, mean, mean, count)
    freedom = max(effective_number(y) - 1, 2.0)
    quantile = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
    step = math.exp(quantile * deviation / math.sqrt(count - 1) / mean)
    third = float(np.mean(((y - mean) / deviation) ** 3)) / 3
    upper = mean - deviation / math.sqrt(count) * _hall(-quantile, third, count)
    return Interval(mean, mean / step, max(upper, mean * step), count)


def _hall(quantile: float, third: float, count: int) -> float:
    """Hall's transformation of a quantile, the other way round; ``third`` is a third of the skewness."""
    root = math.sqrt(count)
    if abs(third) < 1e-9:
        return quantile
    return root / third * (float(np.cbrt(1 + 3 * third * (quantile / root - third / (2 * count)))) - 1)
