r"""Moments of a gradient estimate from R independent replicates g_1 ... g_R at frozen weights.

    variance    tr Cov(g)                    noise of the estimator, the minibatch being fixed
    mean_norm2  |E g|^2  = |gbar|^2 - variance / R                  (unbiased: a plug-in would never reach zero)
    snr         |E g| / sqrt(tr Cov(g)) = sqrt(max(0, mean_norm2) / variance)
    data_variance        noise of drawing the minibatch, Var_x(E[g|x]) of a mean over its B examples
    bias2       |E g - g*|^2 = |gbar - g*|^2 - variance / R         (unbiased too, so it may fall below zero)

Replicates come in chunks, and only sums are kept of a chunk, so memory does not grow with R. The variance is the mean
of half the squared differences of *pairs* of successive replicates: R / 2 values that are unbiased and independent,
whatever the chunks are, so that the interval of ``heavy_tails`` may count them. (Of two deviations from a mean of two,
each is the other. Deviations from the mean of all replicates would need every example's mean gradient.) Where R is odd,
the last replicate only enters the mean. The interval of ``mean_norm2`` is that of ``squared_lengths``, from ``BATCHES``
batches of replicates; that of ``snr`` joins both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from estbench.measure.gradients._squared_lengths import (
    FEWEST_BATCHES,
    Batches,
    SquaredLength,
    Vector,
    correlation_of,
    ratio_interval,
)
from estbench.measure.gradients.heavy_tails import cautious_freedom, skewed_mean_interval
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("space", "group", "statistic", "value", "low", "high", "replicates")
BATCHES = 10
# Pairs of replicates times examples, for an interval. With fewer, nothing tells light tails from heavy ones.
FEWEST_VALUES = 25


@dataclass(frozen=True)
class Moments:
    """What a probe found: rows of space, group, statistic, value, low, high, replicates.

    ``path`` is how the weights were measured, ``fast`` or ``loop``, and ``reason`` why it was not the fast one;
    ``absent`` names what could not be measured, and why; ``warnings`` name what to distrust.
    """

    rows: tuple[dict[str, Any], ...]
    path: str = "loop"
    reason: str = ""
    absent: tuple[str, ...] = ()
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
    """Sums of the replicates of one group of weights, or of one variational parameter, by batch."""

    def __init__(self, size: int, like: Tensor, *, examples: int = 1, pooled: bool = True) -> None:
        self.examples = examples  # B, whose noise is independent
        self.pooled = pooled  # all examples' gradients are of the same weights, and their mean is the gradient
        self.sums = like.new_zeros(BATCHES, size)  # of gradients; a chunk adds its own to ``slot`` in place
        self.sizes = np.zeros(BATCHES)
        self.noise: list[Tensor] = []  # (n // 2,) of each chunk
        self.within: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.across: Tensor | float = 0.0
        self.looks_across = 0

    @property
    def slot(self) -> Tensor:
        """The place where the next chunk adds the sum of its gradients, (P,)."""
        return self.sums[len(self.noise) % BATCHES]

    def add(self, count: int, noise: Tensor, examples: Examples | None = None) -> None:
        """Take in a chunk whose sum is in its slot: its ``half_differences``, (n // 2,), and what examples share."""
        self.sizes[len(self.noise) % BATCHES] += count
        self.noise.append(noise)
        if examples is not None:
            self.within = self.within + examples.within.double() * count
            self.squares = self.squares + examples.squares.double() * count
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
        """One number per pair of replicates, (R // 2,), independent and each unbiased for the variance."""
        values: Vector = torch.cat(self.noise).double().cpu().numpy()
        return values

    @property
    def variance(self) -> float:
        """The trace of the covariance of one replicate."""
        return float(self.deviations.mean())

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,)."""
        return self.sums.sum(0, dtype=torch.float64) / self.count

    @property
    def batches(self) -> Batches:
        """The batches' deviations from the mean, in double precision: what is subtracted is nearly equal."""
        used = min(len(self.noise), BATCHES)
        sizes = torch.as_tensor(self.sizes[:used], device=self.sums.device)
        return Batches(self.sums[:used].double() - sizes[:, None] * self.mean, self.sizes[:used])

    @property
    def enough(self) -> bool:
        """Whether there are enough independent values, pairs times examples, for an interval."""
        return self.count // 2 * self.examples >= FEWEST_VALUES

    @property
    def freedom(self) -> float:
        """Degrees of freedom of an interval from batches, fewer where few pairs carry the noise; 0 for none."""
        used = min(len(self.noise), BATCHES)
        if used < FEWEST_BATCHES or not self.enough:
            return 0.0
        return min(used - 1.0, max(cautious_freedom(self.deviations), 1.0))

    @property
    def squared_length(self) -> SquaredLength:
        """|E g|^2."""
        return distance(self, torch.zeros_like(self.mean))

    def correlation(self, length: SquaredLength) -> float:
        """How the errors of |mean|^2 and of the variance go together, from batches."""
        variance = self.variance
        batches = [torch.cat(self.noise[at::BATCHES]) for at in range(length.products.size)]
        noise = np.array([float(part.double().sum()) - part.numel() * variance for part in batches])
        return correlation_of(length.products, noise)


def distance(tally: Tally, origin: Tensor, other: Tally | None = None) -> SquaredLength:
    """|E g - g*|^2; ``origin`` is g* or, where that has noise of its own, the mean of the ``other`` tally."""
    difference = tally.mean - origin.double()
    sides = [(side, side.batches) for side in (tally, other) if side]
    noise = sum(side.variance / side.count for side, _ in sides)
    products = [batches.along(difference) for _, batches in sides]
    along = sum(
        float(each @ each) / max(batches.scale, 1.0) / side.count
        for (side, batches), each in zip(sides, products, strict=True)
    )
    across = sum(max(batches.covariance_squared(), 0.0) / side.count**2 for side, batches in sides)
    if other:
        across += 2 * sides[0][1].cross(sides[1][1]) / (tally.count * other.count)
    freedom = min(side.freedom for side, _ in sides)
    return SquaredLength(float(difference.square().sum()) - noise, noise, along, across, freedom, products[0])


def summarise(tally: Tally) -> dict[str, Interval]:
    """All statistics of one group, in the order of the table."""
    length = tally.squared_length
    intervals = {"variance": _variance(tally), "mean_norm2": length.interval}
    intervals["snr"] = _snr(length, intervals["variance"], tally)
    if isinstance(tally.across, Tensor) and len(tally.across) >= FEWEST_FOR_AN_INTERVAL:
        products = tally.across / tally.looks_across
        products.diagonal().copy_(torch.as_tensor(tally.squares) / tally.count)
        intervals["data_variance"] = between_examples(products, length.value if tally.pooled else None)
    return intervals


def _variance(tally: Tally) -> Interval:
    interval = skewed_mean_interval(tally.deviations)
    if tally.enough or interval.low == interval.high:
        return interval
    return Interval(interval.value, math.nan, math.nan, interval.n)


def _snr(length: SquaredLength, variance: Interval, tally: Tally) -> Interval:
    """The interval is that of the squared ratio, whose ends are cut at zero before the root is taken."""
    if variance.value <= 0:  # without noise the ratio is infinite, or undefined; neither is a number to report
        return Interval(math.nan, math.nan, math.nan, variance.n)
    if math.isnan(variance.low) or math.isnan(length.interval.low):
        return Interval(math.sqrt(max(0.0, length.value) / variance.value), math.nan, math.nan, variance.n)
    squared = ratio_interval(length, variance, tally.correlation(length))
    value, low, high = (math.sqrt(max(0.0, part)) for part in squared[:3])
    return Interval(value, low, high, squared.n)


def between_examples(products: Tensor, mean_norm2: float | None = None) -> Interval:
    r"""The share of a minibatch-mean gradient's variance that comes from drawing the minibatch.

    ``products`` are unbiased for the inner products m_b . m_c of the examples' mean gradients, (B, B):

        tr Var_x(E[g|x]) = 1/(B-1) (sum_b m_b . m_b - 1/B sum_bc m_b . m_c),

    and a mean over B examples has 1/B of it. ``mean_norm2`` is the mean of all products, where more replicates than
    they were taken from have given a better one. The interval is that of ``heavy_tails`` for the mean of the examples'
    shares.
    """
    values = products.double().cpu().numpy()
    examples = len(values)
    own, rows = np.diag(values), values.sum(1)
    # |m_b - mean|^2 of each example, scaled so that their mean is the variance of the minibatch mean.
    shares = (own - 2 * rows / examples + rows.sum() / examples**2) / (examples - 1)
    interval = skewed_mean_interval(shares)
    if mean_norm2 is None:
        return interval
    shift = (rows.sum() / examples - examples * mean_norm2) / (examples - 1) / examples
    return Interval(interval.value + shift, interval.low + shift, interval.high + shift, interval.n)


def chunk_sizes(replicates: int, largest: int) -> list[int]:
    """Sizes of the chunks that R replicates come in: even ones, but for the last of an odd R, and at most ``largest``.

    Chunk i belongs to batch i mod ``BATCHES``, and the batches are as equal as pairs of replicates allow. The sizes
    decide the order of random draws, so they depend on nothing but these two numbers.
    """
    pairs, half = replicates // 2, max(largest // 2, 1)
    batches = min(BATCHES, pairs)
    shares = [pairs // batches + (index < pairs % batches) for index in range(batches)]
    rounds = -(-shares[0] // half)
    sizes = [2 * (share // rounds + (index < share % rounds)) for index in range(rounds) for share in shares]
    sizes = [size for size in sizes if size]
    sizes[-1] += replicates % 2
    return sizes


def half_differences(vectors: Tensor) -> Tensor:
    """Half the squared difference of each pair of successive vectors: (n, ..., P) to (n // 2, ...)."""
    even = len(vectors) // 2 * 2
    halves: Tensor = torch.linalg.vector_norm(vectors[0:even:2] - vectors[1:even:2], dim=-1).square() / 2
    return halves


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
