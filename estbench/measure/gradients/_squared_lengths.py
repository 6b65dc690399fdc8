r"""Intervals for the squared length of a mean, |E d|^2, from independent batches of draws.

Let d be a mean with covariance S, that of the mean itself. U = |d|^2 - tr S is unbiased for t = |E d|^2, and

    Var U = 4 (E d)' S (E d) + 2 tr S^2

for normal d. The first term grows with t. A standard error at the estimate would be far too small whenever U is small
by chance, and the interval would cover 80 % or less. So the interval holds every t with (U - t)^2 <= q^2 Var_t U, as
Wilson's does for a proportion:

    Var_t U = max(2 tr S^2,  4 d'Sd (t + tr S) / |d|^2 - 2 tr S^2),

because E d'Sd = (E d)' S (E d) + tr S^2 and E |d|^2 = t + tr S. Batches give d'Sd and, without bias, tr S^2 (Himeno and
Yamada, 2014, *Estimations for some functions of covariance matrix in high dimension under non-normality*). The
quantile q is that of Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estbench.stats import Interval, t_quantile

Vector = NDArray[np.float64]
FEWEST_BATCHES = 4  # for an unbiased tr S^2
COLUMNS = 2**13  # of a block of deviations


@dataclass(frozen=True)
class SquaredLength:
    """U and the parts of its interval: tr S, d'Sd, tr S^2, degrees of freedom (below 1: no interval).

    ``products`` are those of d with the deviations of the (first side's) batches, (K,).
    """

    value: float
    noise: float
    along: float
    across: float
    freedom: float
    products: Vector

    @property
    def interval(self) -> Interval:
        """The 95 % interval of |E d|^2."""
        if not self.freedom >= 1:
            return Interval(self.value, math.nan, math.nan, 0)
        value, square = self.value, t_quantile(self.freedom) ** 2
        fixed = 2 * max(self.across, 0.0)
        half = math.sqrt(square * fixed)
        low, high = value - half, value + half
        length2 = value + self.noise
        if length2 > 0:  # the roots of (U - t)^2 = square * (slope * (t + noise) - fixed)
            slope = 4 * self.along / length2
            shift = square * slope / 2
            root = shift * (2 * value + shift) + square * (slope * self.noise - fixed)
            if root >= 0:
                low = min(low, value + shift - math.sqrt(root))
                high = max(high, value + shift + math.sqrt(root))
        return Interval(value, low, high, math.ceil(self.freedom))


@dataclass(frozen=True)
class ReplicateBatches:
    """Sums of draws by batch, (K, P), their mean over all draws, (P,) in double precision, and the sizes, (K,).

    What counts are the deviations of the sums from their share of the mean: in double precision, because nearly equal
    numbers are subtracted, and a block of columns at a time, which stays in the cache.
    """

    sums: Tensor
    mean: Tensor
    sizes: Vector

    def _deviations(self) -> Iterator[Tensor]:
        """Yield the deviations of each block of columns, (K, ``COLUMNS`` or fewer)."""
        sizes = torch.as_tensor(self.sizes).to(self.mean.device)[:, None]
        for sums, mean in zip(torch.split(self.sums, COLUMNS, 1), torch.split(self.mean, COLUMNS), strict=True):
            yield torch.addcmul(sums.double(), sizes, mean, value=-1.0)

    @property
    def scale(self) -> float:
        """The sum of squared deviations divided by the covariance of one draw: R - sum n_k^2 / R."""
        return float(self.sizes.sum() - (self.sizes**2).sum() / self.sizes.sum())

    def along(self, direction: Tensor) -> tuple[Vector, float]:
        """Return the inner products with a vector of (P,): (K,), and the trace of C^2, C the covariance of one draw.

        The trace is found from batches of about equal size; NaN below four.
        """
        blocks = zip(self._deviations(), torch.split(direction, COLUMNS), strict=True)
        products, grams = zip(*((block @ part, block @ block.T) for block, part in blocks), strict=True)
        return torch.stack(products).sum(0).cpu().numpy(), self._covariance_squared(torch.stack(grams).sum(0))

    def _covariance_squared(self, products: Tensor) -> float:
        count = len(self.sizes)
        if count < FEWEST_BATCHES:
            return math.nan
        gram = products.cpu().numpy() / self.sizes.mean()
        own = np.diag(gram)
        trace2, square, fourth = own.sum() ** 2, (gram**2).sum(), (own**2).sum()
        unbiased = (count - 2) * square / (count - 1) + trace2 / (count - 1) ** 2 - count * fourth / (count - 1)
        return float((count - 1) / (count * (count - 2) * (count - 3)) * unbiased)

    def cross(self, other: ReplicateBatches) -> float:
        """Return the trace of C C', the covariances of one draw of each of two independent sides."""
        blocks = zip(self._deviations(), other._deviations(), strict=True)
        products = torch.stack([block @ another.T for block, another in blocks]).sum(0)  # (K, K')
        return float(products.square().sum()) / (self.scale * other.scale)


def ratio_interval(length: SquaredLength, variance: Interval, correlation: float) -> Interval:
    """Return the interval of ``length / variance`` from those of both, whose errors are correlated.

    Distances to the ends are taken as errors (Donner and Zou, 2012, *Closed-form confidence intervals for functions
    of the normal mean and standard deviation*): for the lower end, that of the numerator below and of the denominator
    above, with u the one and v the other, is sqrt(u^2 - 2 r u v + v^2).
    """
    ends = length.interval
    value = ends.value / variance.value
    above = max(value, 0.0)
    lower = _joined((ends.value - ends.low) / variance.value, above * (1 - variance.value / variance.high), correlation)
    upper = _joined((ends.high - ends.value) / variance.value, above * (variance.value / variance.low - 1), correlation)
    return Interval(value, value - lower, value + upper, ends.n)


def _joined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))


def correlation_of(first: Vector, second: Vector) -> float:
    """Return the correlation of centred values of K batches, shrunk by (K - 1) / K; zero if one does not vary."""
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale * (1 - 1 / first.size) if scale else 0.0
