"""The completion grid: how the cell of every estimator and seed ended."""

from __future__ import annotations

from typing import Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.tables.base import NOTHING, Column, Entry, Table
from estbench.store import Results, Status
from estbench.store.results import MISSING


def completion(results: Results) -> Table:
    """One row per problem and estimator, one column per seed; a cell that is not done says where it ended."""
    planned, several = frames.cells(results), len(frames.problems(results)) > 1
    seeds = sorted(set(planned["seed"]))
    data: list[dict[str, str]] = []
    rows: list[tuple[Entry, ...]] = []
    rules: set[int] = set()
    for (problem, estimator), group in planned.groupby(["problem", "estimator"], sort=False):
        if data and data[-1]["problem"] != problem:
            rules.add(len(data))
        cells = {cell["seed"]: cell for cell in group.to_dict("records")}
        statuses = {f"seed {seed}": str(cells[seed]["status"]) if seed in cells else "" for seed in seeds}
        data.append({"problem": str(problem), "estimator": str(estimator), **statuses})
        heads = [Entry(str(estimator)), *([Entry(str(problem))] if several else [])]
        rows.append((*heads, *(_entry(cells.get(seed)) for seed in seeds)))
    columns = [Column("estimator", numeric=False, head=True)]
    if several:
        columns.append(Column("problem", numeric=False, head=True))
    columns += [Column(f"seed {seed}", numeric=False) for seed in seeds]
    caption = (
        "How every planned cell ended. Only cells that are done are in a mean; one that diverged is a result and is "
        "counted as such; one that is missing has not been run."
    )
    frame = pd.DataFrame(data)
    return Table("completion", "Completion", caption, frame, tuple(columns), tuple(rows), frozenset(rules))


def _entry(cell: dict[Any, Any] | None) -> Entry:
    if cell is None:
        return Entry(NOTHING, "not planned")
    done_or_missing = cell["status"] in {Status.DONE, MISSING}
    return Entry(str(cell["status"]), "" if done_or_missing else f"at step {cell['step']:,}")
