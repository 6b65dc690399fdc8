"""Numbers as people read them in tables, figures and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def fixed(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with a fixed count of decimals, so that a column lines up."""
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else str(value).replace("-", MINUS)
    if abs(value) >= 1e6:
        return significant(value)
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    return text.replace("-", MINUS)


def significant(value: float) -> str:
    """Return a number with three significant digits, for values that span orders of magnitude."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else fixed(value)
    if 1e-3 <= abs(value) < 1e4:
        decimals = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def format_count(value: Any) -> str:
    """Return an integer with its thousands separated."""
    return NOTHING if pd.isna(value) else f"{int(value):,}"


def count_noun(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_difference(value: float) -> str:
    """Return a difference with its sign."""
    return fixed(value, sign=True)


def format_rate(value: float) -> str:
    """Return a rate without decimals."""
    return fixed(value, 0)


def format_ratio(ratio: float) -> str:
    """Return a ratio with the digits that a reader compares."""
    return fixed(ratio, 2 if ratio < 10 else 1 if ratio < 100 else 0)


def format_percent(share: float) -> str:
    """Return a share in percent; it is never rounded to all or nothing."""
    inside = min(max(share, 0.0), 1.0)
    if 0 < inside < 0.001:
        return "under 0.1 %"
    if 0.999 < inside < 1:
        return "over 99.9 %"
    return f"{100 * inside:.3g} %"


def format_p(p: float) -> str:
    """Return a p-value, no more precise than it deserves."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def bytes_as_mib(value: float) -> str:
    """Return a number of bytes in MiB."""
    return fixed(value / 2**20, 0)


def interval_note(interval: Interval, low: str, high: str, unit: str = "") -> str:
    """Return the small print below a value: its written ends and n (of ``unit``), or why there are no ends."""
    n = f"n = {interval.n} {unit}".rstrip()
    if interval.n and not math.isnan(interval.low):
        return f"[{low}, {high}], {n}"
    return f"{n} < 3: no interval" if 0 < interval.n < FEWEST_FOR_AN_INTERVAL else n


def format_list(parts: Sequence[str]) -> str:
    """Return at least one part as "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
