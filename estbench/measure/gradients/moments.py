r"""Moments of a gradient estimate from R independent replicates g_1 ... g_R at frozen weights.

    variance    tr Cov(g)                    noise of the estimator, the minibatch being fixed
    mean_norm2  |E g|^2  = |gbar|^2 - variance / R                  (unbiased: a plug-in would never reach zero)
    snr         |E g| / sqrt(tr Cov(g)) = sqrt(max(0, mean_norm2) / variance)
    data_variance        noise of drawing the minibatch, Var_x(E[g|x]) of a mean over its B examples
    bias2       |E g - g*|^2 = |gbar - g*|^2 - variance / R         (unbiased too, so it may fall below zero)

Replicates come in chunks, and only sums are kept of a chunk, so memory does not grow with R. The variance is the mean
of half the squared differences of *pairs* of successive replicates: R / 2 values that are unbiased and independent,
whatever the chunks are, so that the interval of ``heavy_tails`` may count them. (Of two deviations from a mean of two,
each is the other. Deviations from the mean of all replicates would need every example's mean gradient.) If R is odd,
the last replicate only enters the mean. The interval of ``mean_norm2`` is that of ``_squared_lengths``, from
``BATCHES`` batches of replicates; that of ``snr`` joins both.
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
    ReplicateBatches,
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
# The fewest pairs of replicates times examples for an interval. With fewer, light and heavy tails look the same.
FEWEST_VALUES = 25


@dataclass(frozen=True)
class Moments:
    """The result of a probe: rows of space, group, statistic, value, low, high, replicates.

    ``path`` is how the weights were measured, ``fast`` or ``loop``, and ``reason`` why it was not the fast one;
    ``absent`` names statistics that could not be measured, and why; ``warnings`` name those to distrust; ``device`` is
    the type of device that it was measured on: the CPU if the model's own has no double precision.

    Examples
    --------
    >>> from estbench.measure import Moments
    >>> row = {"space": "params", "group": "loc", "statistic": "variance", "value": 2.0, "low": 1.5, "high": 3.0}
    >>> moments = Moments(({**row, "replicates": 100},))
    >>> moments.value("params", "loc", "variance")
    2.0
    >>> moments.table
        space group statistic  value  low  high  replicates
    0  params   loc  variance    2.0  1.5   3.0         100
    """

    rows: tuple[dict[str, Any], ...]
    path: str = "loop"
    reason: str = ""
    absent: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    device: str = "cpu"

    def __repr__(self) -> str:
        groups = dict.fromkeys(f"{row['space']} {row['group']}" for row in self.rows)
        statistics = dict.fromkeys(row["statistic"] for row in self.rows)
        draws = ", ".join(dict.fromkeys(f"{row['replicates']} draws" for row in self.rows))
        warned = f"; {len(self.warnings)} to distrust" if self.warnings else ""
        return f"Moments({', '.join(statistics)} of {', '.join(groups)}; {draws}{warned}; see .table)"

    def _repr_html_(self) -> str:
        html: str = self.table._repr_html_()  # type: ignore[operator]
        return html

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd  # noqa: PLC0415  (training needs no pandas)

        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def value(self, space: str, group: str, statistic: str) -> float:
        """Return one number; raise ``KeyError`` if it was not measured."""
        for row in self.rows:
            if (row["space"], row["group"], row["statistic"]) == (space, group, statistic):
                return float(row["value"])
        raise KeyError((space, group, statistic))


@dataclass(frozen=True)
class ExampleMoments:
    """Moments of the gradients of single examples in a chunk; their mean over the minibatch is the gradient.

    ``within``, (B,), is unbiased for the trace of each covariance, and ``squares``, (B,), for the squared norm of each
    mean. ``cross_products``, (B, B), is so for the inner products of two means (its diagonal has no meaning); None if
    they were not asked for.
    """

    within: Tensor
    squares: Tensor
    cross_products: Tensor | None

    def __add__(self, other: ExampleMoments) -> ExampleMoments:
        """Return those of two sets of weights together, whose gradients are stacked: inner products add."""
        cross_products = (
            None
            if self.cross_products is None or other.cross_products is None
            else self.cross_products + other.cross_products
        )
        return ExampleMoments(self.within + other.within, self.squares + other.squares, cross_products)


class MomentAccumulator:
    """Sums of the replicates of one group of weights, or of one variational parameter, by batch."""

    def __init__(self, size: int, like: Tensor, *, examples: int = 1, pooled: bool = True) -> None:
        self.examples = examples  # B, whose noise is independent
        self.pooled = pooled  # whether examples share the weights: their mean gradient is the gradient
        self.sums = like.new_zeros(BATCHES, size)  # of gradients; a chunk adds its own to ``next_sum`` in place
        self.sizes = np.zeros(BATCHES)
        self.noise: list[Tensor] = []  # (n // 2,) of each chunk
        self.within: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.cross_products: Tensor | float = 0.0
        self.cross_count = 0
        self._mean: tuple[int, Tensor] | None = None  # of how many replicates, and that mean

    @property
    def next_sum(self) -> Tensor:
        """The tensor to which the next chunk adds the sum of its gradients, (P,)."""
        return self.sums[len(self.noise) % BATCHES]

    def add(self, count: int, noise: Tensor, examples: ExampleMoments | None = None) -> None:
        """Take in a chunk whose sum is in ``next_sum``: its ``half_differences``, (n // 2,), and example moments."""
        self.sizes[len(self.noise) % BATCHES] += count
        self.noise.append(noise)
        if examples is not None:
            self.within = self.within + examples.within.double() * count
            self.squares = self.squares + examples.squares.double() * count
            if examples.cross_products is not None:
                self.cross_products = self.cross_products + examples.cross_products.double()
                self.cross_count += 1

    @property
    def needs_cross_products(self) -> bool:
        """Whether inner products of different examples are still needed; those of some replicates are enough."""
        return self.cross_count < BATCHES

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
        if self._mean is None or self._mean[0] != self.count:
            self._mean = self.count, self.sums.sum(0, dtype=torch.float64) / self.count
        return self._mean[1]

    @property
    def batches(self) -> ReplicateBatches:
        """The batches of replicates, by whose deviations from the mean intervals are found."""
        used = min(len(self.noise), BATCHES)
        return ReplicateBatches(self.sums[:used], self.mean, self.sizes[:used])

    @property
    def has_enough_values(self) -> bool:
        """Whether there are enough independent values, pairs times examples, for an interval."""
        return self.count // 2 * self.examples >= FEWEST_VALUES

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of an interval from batches, fewer if few pairs carry the noise; 0 for no interval."""
        used = min(len(self.noise), BATCHES)
        if used < FEWEST_BATCHES or not self.has_enough_values:
            return 0.0
        return min(used - 1.0, max(cautious_freedom(self.deviations), 1.0))

    @property
    def squared_length(self) -> SquaredLength:
        """|E g|^2."""
        return distance(self)

    def correlation(self, length: SquaredLength) -> float:
        """Return the correlation of the errors of |mean|^2 and of the variance, from batches."""
        variance = self.variance
        batches = [torch.cat(self.noise[at::BATCHES]) for at in range(length.products.size)]
        noise = np.array([float(part.double().sum()) - part.numel() * variance for part in batches])
        return correlation_of(length.products, noise)


def distance(
    accumulator: MomentAccumulator, origin: Tensor | None = None, other: MomentAccumulator | None = None
) -> SquaredLength:
    """Return |E g - g*|^2; ``origin`` is g* (zero if None) or, if it has noise itself, the mean of the ``other``."""
    difference = accumulator.mean if origin is None else accumulator.mean - origin.double()
    sides = [(side, side.batches) for side in (accumulator, other) if side]
    noise = sum(side.variance / side.count for side, _ in sides)
    products, covariances = zip(*(batches.along(difference) for _, batches in sides), strict=True)
    along = sum(
        float(each @ each) / max(batches.scale, 1.0) / side.count
        for (side, batches), each in zip(sides, products, strict=True)
    )
    across = sum(max(each, 0.0) / side.count**2 for (side, _), each in zip(sides, covariances, strict=True))
    if other:
        across += 2 * sides[0][1].cross(sides[1][1]) / (accumulator.count * other.count)
    freedom = min(side.degrees_of_freedom for side, _ in sides)
    return SquaredLength(float(difference.square().sum()) - noise, noise, along, across, freedom, products[0])


def summarise(accumulator: MomentAccumulator) -> dict[str, Interval]:
    """Return all statistics of one group, in the order of the table."""
    length = accumulator.squared_length
    intervals = {"variance": _variance(accumulator), "mean_norm2": length.interval}
    intervals["snr"] = _snr(length, intervals["variance"], accumulator)
    if isinstance(accumulator.cross_products, Tensor) and len(accumulator.cross_products) >= FEWEST_FOR_AN_INTERVAL:
        products = accumulator.cross_products / accumulator.cross_count
        products.diagonal().copy_(torch.as_tensor(accumulator.squares) / accumulator.count)
        intervals["data_variance"] = between_examples(products, length.value if accumulator.pooled else None)
    return intervals


def _variance(accumulator: MomentAccumulator) -> Interval:
    interval = skewed_mean_interval(accumulator.deviations)
    if accumulator.has_enough_values or interval.low == interval.high:
        return interval
    return Interval(interval.value, math.nan, math.nan, interval.n)


def _snr(length: SquaredLength, variance: Interval, accumulator: MomentAccumulator) -> Interval:
    """Return the ratio with the interval of its square, whose ends are cut at zero before the root is taken."""
    if variance.value <= 0:  # without noise the ratio is infinite, or undefined; neither is a number to report
        return Interval(math.nan, math.nan, math.nan, variance.n)
    if math.isnan(variance.low) or math.isnan(length.interval.low):
        return Interval(math.sqrt(max(0.0, length.value) / variance.value), math.nan, math.nan, variance.n)
    squared = ratio_interval(length, variance, accumulator.correlation(length))
    value, low, high = (math.sqrt(max(0.0, part)) for part in squared[:3])
    return Interval(value, low, high, squared.n)


def between_examples(products: Tensor, mean_norm2: float | None = None) -> Interval:
    r"""Return the part of a minibatch-mean gradient's variance that comes from drawing the minibatch.

    ``products`` are unbiased for the inner products m_b . m_c of the examples' mean gradients, (B, B):

        tr Var_x(E[g|x]) = 1/(B-1) (sum_b m_b . m_b - 1/B sum_bc m_b . m_c),

    and a mean over B examples has 1/B of it. ``mean_norm2`` is a better estimate of the mean of all products, from more
    replicates, or None. The interval is that of ``heavy_tails`` for the mean of the examples'
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
    """Return the sizes of chunks of R replicates: even ones, except for the last of an odd R, and at most ``largest``.

    Chunk i belongs to batch i mod ``BATCHES``, and the batches are as equal as pairs of replicates allow. The sizes
    decide the order of random draws, so they depend only on these two numbers.

    Examples
    --------
    >>> from estbench.measure.gradients.moments import chunk_sizes
    >>> chunk_sizes(25, largest=4)
    [4, 4, 2, 2, 2, 2, 2, 2, 2, 3]
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
    """Return half the squared difference of each pair of successive vectors: (n, ..., P) to (n // 2, ...)."""
    even = len(vectors) // 2 * 2
    halves: Tensor = torch.linalg.vector_norm(vectors[0:even:2] - vectors[1:even:2], dim=-1).square() / 2
    return halves


def table_rows(space: str, accumulators: Iterable[tuple[str, MomentAccumulator]]) -> list[dict[str, Any]]:
    """Return the rows of some groups in the table."""
    return [
        table_row(space, group, statistic, interval, accumulator.count)
        for group, accumulator in accumulators
        for statistic, interval in summarise(accumulator).items()
    ]


def table_row(space: str, group: str, statistic: str, interval: Interval, replicates: int) -> dict[str, Any]:
    """Return one row of the table, of plain numbers: ``weights_only`` reads no checkpoint with a NumPy scalar."""
    return dict(zip(COLUMNS, (space, group, statistic, *map(float, interval[:3]), replicates), strict=True))
