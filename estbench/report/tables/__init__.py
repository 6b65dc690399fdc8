"""The report's tables, from records alone; every value comes with its n, and an interval where n allows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estbench.report.analysis.frames import TRAJECTORIES
from estbench.report.tables.bounds import cells, declared, summary
from estbench.report.tables.completion import completion
from estbench.report.tables.equal_cost import equal_cost
from estbench.report.tables.gradients import gradient_variance
from estbench.report.tables.pairwise import pairwise
from estbench.report.tables.targets import time_to_target
from estbench.report.tables.throughput import throughput

if TYPE_CHECKING:
    from estbench.report.tables.base import Table
    from estbench.store import Results

__all__ = [
    "all_tables",
    "cells",
    "declared",
    "equal_cost",
    "gradient_variance",
    "pairwise",
    "summary",
    "throughput",
    "time_to_target",
]


def all_tables(results: Results) -> list[Table]:
    """Every table that the records have data for."""
    made = [
        completion(results),
        summary(results),
        *(gradient_variance(results, trajectory) for trajectory in TRAJECTORIES if _measured(results, trajectory)),
        throughput(results),
        time_to_target(results),
        equal_cost(results),
        pairwise(results),
        cells(results),
        declared(results),
    ]
    return [table for table in made if len(table.data)]


def _measured(results: Results, trajectory: str) -> bool:
    return bool((results.gradients["trajectory"] == trajectory).any())
