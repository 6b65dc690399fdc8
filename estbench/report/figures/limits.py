"""Limits of axes that show the differences between the curves that matter."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# How many times the typical shortfall from the best value still belongs on the plot.
REACH = 2.0


def lowest_in_reach(values: Collection[float]) -> float:
    """Return the lowest value that belongs on the plot, however far below a failed run lies.

    It is as far below the best value as ``REACH`` times the median shortfall.
    """
    best = max(values)
    return best - REACH * (best - median(values))


def padded(low: float, high: float, share: float) -> tuple[float, float]:
    """Return limits with a share of their range added at both ends; 1 is added where there is no range."""
    pad = share * (high - low) or 1.0
    return low - pad, high + pad


def with_decades(low: float, high: float) -> tuple[float, float]:
    """Return limits with at least two powers of ten between them, so that a narrow range keeps its labels."""
    first, last = math.log10(low), math.log10(high)
    if math.floor(last) - math.ceil(first) >= 1:
        return low, high
    return 10.0 ** (math.floor(first) - 0.2), 10.0 ** (max(math.ceil(last), math.floor(first) + 1) + 0.2)
