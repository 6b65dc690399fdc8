r"""An interval for the mean of skewed, independent values, such as the squared differences of a variance.

A score-function gradient is a product of an integrand and a score, so its squared differences y_1 ... y_n have tails so
heavy that a handful of them carries the estimate. A t interval, on any scale, then covers far less than it says. Two
corrections together hold 95 %:

* the quantile is that of Student's t. Its degrees of freedom are n_eff - 1, where n_eff = (sum |y|)^2 / sum y^2 is
  Kish's effective number. For the upper end they are n_eff - 1 times min(1, n_eff / ``TAIL``): if few values carry the
  mean, the tail that was not seen may carry more. The constant was chosen by simulation (a slow test measures it).
* the upper end is corrected for skewness g by Hall's cubic transformation (Hall, 1992, *On the removal of skewness by
  transformation*): with T(u) = sqrt(n) / a ((1 + 3 a (u / sqrt(n) - b / n))^{1/3} - 1), a = g / 3, b = g / 6, it is
  ybar - sd / sqrt(n) T(-t).

The lower end is that of the t interval on the log scale, which cannot fall below zero. Values that are unbiased for
something positive may be negative themselves (the shares of examples in the data's variance are): the lower end is then
additive, and so is the t interval for the upper one if they hold more than ``NEGATIVE`` of the whole.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, t_quantile

TAIL = 14.0
NEGATIVE = 0.1
LARGEST_STEP = 700.0  # exp of more is infinite


def effective_number(y: NDArray[np.float64]) -> float:
    """Return Kish's (sum |y|)^2 / sum y^2: n for equal values, 1 if all but one are zero."""
    squares = float(y @ y)
    return float(np.abs(y).sum()) ** 2 / squares if squares else float(y.size)


def cautious_freedom(y: NDArray[np.float64]) -> float:
    """Return the degrees of freedom of a mean of these values, lower if the unseen part of a tail matters."""
    effective = effective_number(y)
    return max((effective - 1) * min(1.0, effective / TAIL), 0.7)


def skewed_mean_interval(y: NDArray[np.float64]) -> Interval:
    """Return the mean of independent values, (n,), with its two-sided 95 % interval; NaN ends below three values.

    Examples
    --------
    >>> import numpy as np
    >>> from estbench.measure.gradients.heavy_tails import skewed_mean_interval
    >>> value, low, high, n = skewed_mean_interval(np.array([1.0, 2.0, 3.0, 10.0]))
    >>> value, low < value < high, n
    (4.0, True, 4)
    """
    count, mean = y.size, float(y.mean()) if y.size else math.nan
    if count < FEWEST_FOR_AN_INTERVAL:
        return Interval(mean, math.nan, math.nan, count)
    deviation = float(y.std())
    if deviation == 0:
        return Interval(mean, mean, mean, count)
    error = deviation / math.sqrt(count - 1)
    below = t_quantile(max(effective_number(y) - 1, 2.0)) * error
    quantile = t_quantile(cautious_freedom(y))
    third = float(np.mean(((y - mean) / deviation) ** 3)) / 3
    above = max(quantile * error, -deviation / math.sqrt(count) * _hall(-quantile, third, count))
    low = mean * math.exp(-below / mean) if y.min() > 0 else mean - below
    if mean > 0 and float(-y[y < 0].sum()) < NEGATIVE * float(np.abs(y).sum()):
        above = max(above, mean * math.expm1(min(quantile * error / mean, LARGEST_STEP)))
    return Interval(mean, low, mean + above, count)


def _hall(quantile: float, third: float, count: int) -> float:
    """Return Hall's transformation of a quantile, inverted; ``third`` is a third of the skewness."""
    root = math.sqrt(count)
    if abs(third) < 1e-9:
        return quantile
    return root / third * (float(np.cbrt(1 + 3 * third * (quantile / root - third / (2 * count)))) - 1)
