"""From numbers to a table: what every table is put together with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.tables.base import NOTHING, Column, Entry, Table, fixed, interval_note
from estbench.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from estbench.store import Results

ABSENT = Interval(math.nan, math.nan, math.nan, 0)
# A rule separates rows that differ in these.
BLOCKS = {
    "summary": ("problem",),
    "gradient_variance": ("problem", "space", "group"),
    "gradient_variance_shared": ("problem", "space", "group"),
    "throughput": ("problem", "machine"),
    "cells": ("problem", "seed"),
    "time_to_target": ("problem", "target"),
    "equal_cost": ("problem",),
    "compare": ("problem",),
    "estimators": (),
    "sensitivity": ("problem", "estimator"),
}


def assemble(
    results: Results,
    name: str,
    title: str,
    caption: str,
    data: list[dict[str, Any]],
    columns: list[Column],
    rows: Sequence[tuple[Entry, ...]],
) -> Table:
    """Put a table together; the column of problems is shown only where there are several."""
    blocks = [tuple(row.get(key) for key in BLOCKS[name]) for row in data]
    rules = frozenset(at for at in range(1, len(blocks)) if blocks[at] != blocks[at - 1])
    kept = [at for at, column in enumerate(columns) if column.title != "problem" or len(frames.problems(results)) > 1]
    return Table(
        name,
        title,
        caption,
        pd.DataFrame(data),
        tuple(columns[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in rows),
        rules,
    )


def columns_of(intervals: dict[str, Interval]) -> dict[str, float | int]:
    """The raw numbers of intervals as columns of a CSV file."""
    return {
        f"{name}{suffix}": number
        for name, interval in intervals.items()
        for suffix, number in zip(("", "_low", "_high", "_n"), interval, strict=True)
    }


def entry(interval: Interval, write: Callable[[float], str], *, unit: str = "", one_probe: bool = False) -> Entry:
    """A value with its interval and n as small print; ``one_probe`` marks the interval of a single probe."""
    if one_probe and interval.n and not math.isnan(interval.low):
        return Entry(write(interval.value), f"[{write(interval.low)}, {write(interval.high)}] within one probe, n = 1")
    return Entry(write(interval.value), interval_note(interval, write(interval.low), write(interval.high), unit))


def signed(value: float) -> str:
    """A difference, with its sign."""
    return fixed(value, sign=True)


def whole(value: float) -> str:
    """A rate, without decimals."""
    return fixed(value, 0)


def count(value: Any) -> str:
    """An integer with thousands separated."""
    return NOTHING if pd.isna(value) else f"{int(value):,}"
