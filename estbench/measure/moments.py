r"""Moments of a gradient estimate from R independent replicates g_1 ... g_R at frozen weights.

    variance    tr Cov(g)                    noise of the estimator, the minibatch being fixed
    mean_norm2  |E g|^2  = |gbar|^2 - variance / R                  (unbiased: a plug-in would never reach zero)
    snr         |E g| / sqrt(tr Cov(g)) = sqrt(max(0, mean_norm2) / variance)
    data_variance        noise of drawing the minibatch, Var_x(E[g|x]) of a mean over its B examples
    bias2       |E g - g*|^2 = |gbar - g*|^2 - variance / R         (unbiased too, so it may fall below zero)

Replicates come in chunks, and nothing is kept of a chunk but sums, so memory does not grow with R. A replicate's own
number is its squared deviation from the mean of its chunk of n, times n / (n - 1): each is unbiased for the variance,
and their interval is that of ``heavy_tails``. What involves the mean has a jackknife over at most ``BATCHES`` batches
of replicates, and the data's variance one over examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estbench.measure.heavy_tails import skewed_mean_interval
from estbench.stats import Interval, jackknife_interval

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
COLUMNS = ("space", "group", "statistic", "value", "low", "high", "replicates")
BATCHES = 10
FEWEST_BATCHES = 3  # for a jackknife


@dataclass(frozen=True)
class Moments:
    """What a probe found: rows of space, group, statistic, value, low, high, replicates.

    ``path`` is how the weights were measured, ``fast`` or ``exact``, and ``reason`` why it was not the fast one;
    ``warnings`` name what to distrust.
    """

    rows: tuple[dict[str, Any], ...]
    path: str = "exact"
    reason: str = ""
    warnings: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Examples:
    """What a chunk tells about the examples' own gradients, whose mean over the minibatch is the gradient.

    ``within``: (B,), unbiased for the trace of each one's covariance. ``squares``: (B,), for the squared norm of each
    one's mean. ``across``: (B, B), for the inner products of the means of two, its diagonal without meaning; nothing
    where a chunk was not asked for it.
    """

    within: Tensor
    squares: Tensor
    across: Tensor | None

    def __add__(self, other: Examples) -> Examples:
        """Of two sets of weights together, whose gradients are stacked: inner products add."""
        across = None if self.across is None or other.across is None else self.across + other.across
        return Examples(self.within + other.within, self.squares + other.squares, across)


class Tally:
    """What is kept of the replicates of one group of weights, or of one variational parameter: sums by batch."""

    def __init__(self, size: int, like: Tensor, *, pooled: bool = True) -> None:
        self.pooled = pooled  # all examples' gradients are of the same weights, and their mean is the gradient
        self.sums = like.new_zeros(BATCHES, size)  # of gradients; a chunk adds its own to ``slot`` in place
        self.sizes = np.zeros(BATCHES)
        self.noise: list[Tensor] = []  # (n,) of each chunk
        self.within: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.across: Tensor | float = 0.0
        self.looks_across = 0

    @property
    def slot(self) -> Tensor:
        """Where the next chunk adds the sum of its gradients, (P,)."""
        return self.sums[len(self.noise) % BATCHES]

    def add(self, noise: Tensor, examples: Examples | None = None) -> None:
        """Take in a chunk whose sum is in its slot: (n,) squared deviations, and the examples' own gradients."""
        size = noise.numel()
        self.sizes[len(self.noise) % BATCHES] += size
        self.noise.append(noise)
        if examples is not None:
            self.within = self.within + examples.within.double() * size
            self.squares = self.squares + examples.squares.double() * size
            if examples.across is not None:
                self.across = self.across + examples.across.double()
                self.looks_across += 1

    @property
    def wants_across(self) -> bool:
        """Whether inner products of different examples are still asked for; some replicates' are enough."""
        return self.looks_across < BATCHES

    @property
    def count(self) -> int:
        """R, the replicates so far."""
        return int(self.sizes.sum())

    @property
    def deviations(self) -> Vector:
        """One number per replicate, (R,), each unbiased for the variance."""
        found: Vector = torch.cat(self.noise).double().cpu().numpy()
        return found

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,)."""
        return self.sums.sum(0, dtype=torch.float64) / self.count

    def batches(self, origin: Tensor | None = None) -> Batches:
        """What intervals of the mean's distance from ``origin`` (zero if not given) are made from."""
        used = min(len(self.noise), BATCHES)
        sums, sizes = self.sums[:used], self.sizes[:used]
        if origin is not None:
            sums = sums.double() - origin.double() * torch.as_tensor(sizes, device=sums.device)[:, None]
        noise = [sum(float(part.sum()) for part in self.noise[at::BATCHES]) for at in range(used)]
        return Batches(sizes, np.array(noise), (sums @ sums.T).double().cpu().numpy())


@dataclass(frozen=True)
class Batches:
    """Sizes n_k and noise of the batches, (K,), and inner products of the sums of their gradients, (K, K)."""

    sizes: Vector
    noise: Vector
    gram: Vector

    def norm2(self) -> tuple[float, Vector]:
        """|mean|^2 - variance / R, of all replicates and with each batch left out."""
        total, rows = self.gram.sum(), self.gram.sum(1)
        count, left = self.sizes.sum(), self.sizes.sum() - self.sizes
        value = (total - self.noise.sum()) / count**2
        without = (total - 2 * rows + np.diag(self.gram) - (self.noise.sum() - self.noise)) / np.maximum(left, 1) ** 2
        return float(value), without

    def variances(self) -> Vector:
        """The variance with each batch left out, (K,)."""
        left: Vector = (self.noise.sum() - self.noise) / np.maximum(self.sizes.sum() - self.sizes, 1)
        return left


def summarise(tally: Tally) -> dict[str, Interval]:
    """All statistics of one group, in the order of the table."""
    batches = tally.batches()
    variance = skewed_mean_interval(tally.deviations)
    signal, left = batches.norm2()
    found = {
        "variance": variance,
        "mean_norm2": grouped_jackknife(signal, left),
        "snr": _snr(signal, variance.value, left, batches.variances()),
    }
    if isinstance(tally.across, Tensor) and len(tally.across) >= 3:
        products = tally.across / tally.looks_across
        products.diagonal().copy_(torch.as_tensor(tally.squares) / tally.count)
        found["data_variance"] = between_examples(products, signal if tally.pooled else None)
    return found


def grouped_jackknife(value: float, left: Vector) -> Interval:
    """A jackknife over batches; no interval where there are fewer than three."""
    if left.size < FEWEST_BATCHES:
        return Interval(value, math.nan, math.nan, left.size)
    return jackknife_interval(value, left)


def _snr(signal: float, variance: float, left_signals: Vector, left_variances: Vector) -> Interval:
    """The interval is that of the squared ratio, whose ends are cut at zero before the root is taken."""
    if variance <= 0 or (left_variances.size >= FEWEST_BATCHES and np.any(left_variances <= 0)):
        # Without noise the ratio is infinite, or undefined; neither is a number to report.
        return Interval(math.nan, math.nan, math.nan, left_signals.size)
    if left_variances.size < FEWEST_BATCHES:
        return Interval(math.sqrt(max(0.0, signal) / variance), math.nan, math.nan, left_signals.size)
    squared = jackknife_interval(signal / variance, left_signals / left_variances)
    value, low, high = (math.sqrt(max(0.0, part)) for part in squared[:3])
    return Interval(value, low, high, squared.n)


def between_examples(products: Tensor, mean_norm2: float | None = None) -> Interval:
    r"""The share of a minibatch-mean gradient's variance that comes from drawing the minibatch.

    ``products`` are unbiased for the inner products m_b . m_c of the examples' mean gradients, (B, B):

        tr Var_x(E[g|x]) = 1/(B-1) (sum_b m_b . m_b - 1/B sum_bc m_b . m_c),

    and a mean over B examples has 1/B of it. ``mean_norm2`` is the mean of all products, where more replicates than
    they were taken from have given a better one. The interval is jackknife over examples.
    """
    found = products.double().cpu().numpy()
    examples = len(found)
    own, rows = np.diag(found), found.sum(1)
    value = (own.sum() - rows.sum() / examples) / (examples - 1)
    left_rows = rows.sum() - 2 * rows + own
    left = (own.sum() - own - left_rows / (examples - 1)) / (examples - 2)
    interval = jackknife_interval(value / examples, left / examples)
    if mean_norm2 is None:
        return interval
    shift = (rows.sum() / examples - examples * mean_norm2) / (examples - 1) / examples
    return Interval(interval.value + shift, interval.low + shift, interval.high + shift, interval.n)


def even_chunks(count: int, largest: int) -> list[int]:
    """``count`` in even parts of at most ``largest``, but never of one alone: a deviation takes two."""
    parts = max(1, min(-(-count // max(largest, 1)), count // 2))
    return [count // parts + (index < count % parts) for index in range(parts)]


def centred_squares(vectors: Tensor) -> Tensor:
    """Squared deviation of each from the mean of all n, times n / (n - 1): (n, ..., P) to (n, ...)."""
    count = len(vectors)
    # From the first one, so that equal vectors have a deviation of exactly zero.
    deviations = vectors - vectors[:1]
    deviations -= deviations.mean(0)
    squares: Tensor = torch.linalg.vector_norm(deviations, dim=-1).square() * (count / (count - 1))
    return squares


def rows_of(space: str, tallies: Iterable[tuple[str, Tally]]) -> list[dict[str, Any]]:
    """The table's rows of some groups."""
    return [
        row(space, group, statistic, interval, tally.count)
        for group, tally in tallies
        for statistic, interval in summarise(tally).items()
    ]


def row(space: str, group: str, statistic: str, interval: Interval, replicates: int) -> dict[str, Any]:
    """One row of the table, of plain numbers: a NumPy scalar would make a checkpoint unreadable to weights_only."""
    return dict(zip(COLUMNS, (space, group, statistic, *map(float, interval[:3]), replicates), strict=True))
