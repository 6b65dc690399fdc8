r"""Moments of a gradient estimate from R independent replicates g_1 ... g_R at frozen weights.

    variance    tr Cov(g)        = 1/(R-1) sum_r |g_r - gbar|^2
    mean_norm2  |E g|^2          = |gbar|^2 - variance / R          (unbiased: the U-statistic of pairs r != s)
    snr         |E g| / sqrt(tr Cov(g)) = sqrt(max(0, mean_norm2) / variance)

A plug-in SNR, |gbar| / sqrt(variance), would never fall below about 1/sqrt(R), however small the signal. Intervals
are jackknife over replicates (on the log scale for the variance), with R - 1 degrees of freedom. Their 95 % is
nominal: it holds for light tails and is optimistic for heavy ones, which plain score-function gradients have.

No R x R matrix is needed: with d_r = |g_r - gbar|^2 and e_r = gbar . (g_r - gbar), leaving replicate r out gives

    sum_{s != r} |g_s - gbar_(r)|^2 = sum_s d_s - d_r R/(R-1)
    |gbar_(r)|^2                    = |gbar|^2 - 2 e_r/(R-1) + d_r/(R-1)^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estbench.stats import Interval, jackknife_interval

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
COLUMNS = ("space", "group", "statistic", "value", "low", "high", "replicates")


@dataclass(frozen=True)
class Moments:
    """What a probe found: rows of space, group, statistic, value, low, high, replicates."""

    rows: tuple[dict[str, Any], ...]

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd  # noqa: PLC0415  (training needs no pandas)

        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def value(self, space: str, group: str, statistic: str) -> float:
        """One number; raise ``KeyError`` where it was not measured."""
        for row in self.rows:
            if (row["space"], row["group"], row["statistic"]) == (space, group, statistic):
                return float(row["value"])
        raise KeyError((space, group, statistic))


def moments_of(replicates: Callable[[], Iterable[Tensor]], count: int) -> dict[str, Interval]:
    """Variance, squared norm of the mean, and SNR, of ``count`` flat gradients, each (P,).

    ``replicates`` is called twice and must give the same gradients both times: first for their mean, then for the
    deviations from it. So a caller may store them or draw them again, as memory allows.
    """
    total: Tensor | None = None
    for gradient in replicates():
        total = gradient.to(torch.float64, copy=True) if total is None else total.add_(gradient)
    if total is None:
        raise ValueError("no replicates")
    exact = total / count
    mean = exact.to(gradient.dtype)
    deviations, products = np.empty(count), np.empty(count)
    for index, gradient in enumerate(replicates()):
        deviation = gradient - mean
        deviations[index] = float(deviation @ deviation)
        products[index] = float(mean @ deviation)
    return summarise(float(exact @ exact), deviations, products)


def summarise(mean_norm2: float, deviations: Vector, products: Vector) -> dict[str, Interval]:
    """Statistics and intervals from |gbar|^2, d_r and e_r, the last two of shape (R,)."""
    count = deviations.size
    variance = deviations.sum() / (count - 1)
    left_variances = (deviations.sum() - deviations * count / (count - 1)) / (count - 2)
    # Rounding may leave a hair below zero where all but one replicate agree.
    left_variances = np.maximum(left_variances, 0.0)
    signal = mean_norm2 - variance / count
    left_signals = (
        mean_norm2 - 2 * products / (count - 1) + deviations / (count - 1) ** 2 - left_variances / (count - 1)
    )
    return {
        "variance": jackknife_interval(variance, left_variances, log=True),
        "mean_norm2": jackknife_interval(signal, left_signals),
        "snr": _snr(signal, variance, left_signals, left_variances),
    }


def _snr(signal: float, variance: float, left_signals: Vector, left_variances: Vector) -> Interval:
    """The interval is that of the squared ratio, whose ends are cut at zero before the root is taken."""
    if variance == 0 or np.any(left_variances == 0):
        # Without noise the ratio is infinite, or undefined; neither is a number to report.
        return Interval(math.nan, math.nan, math.nan, left_signals.size)
    squared = jackknife_interval(signal / variance, left_signals / left_variances)
    value, low, high = (math.sqrt(max(0.0, part)) for part in squared[:3])
    return Interval(value, low, high, squared.n)


def between_examples(gradients: Tensor) -> Interval:
    r"""The share of a minibatch-mean gradient's variance that comes from drawing the minibatch.

    ``gradients`` holds every example's own gradient, (R, B, D) or (R, B, D, C). With m_b its mean over replicates and
    v_b the trace of its covariance, one-way analysis of variance gives

        tr Var_x(E[g|x]) = 1/(B-1) sum_b |m_b - mbar|^2 - mean_b v_b / R,

    and a mean over B examples has 1/B of it. The interval is jackknife over examples.
    """
    replicates, examples = gradients.shape[:2]
    gradients = gradients.double().flatten(2)
    means = gradients.mean(0)
    within = gradients.sub(means).square().sum((0, 2)).div(replicates - 1).cpu().numpy()
    centred = means - means.mean(0)
    deviations = centred.square().sum(-1).cpu().numpy()
    estimate = deviations.sum() / (examples - 1) - within.mean() / replicates
    left_between = (deviations.sum() - deviations * examples / (examples - 1)) / (examples - 2)
    left_within = (within.sum() - within) / (examples - 1)
    return jackknife_interval(estimate / examples, (left_between - left_within / replicates) / examples)
