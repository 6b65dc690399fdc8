"""The completion grid: how the cell of every estimator and seed ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.wording import NOTHING
from estbench.report.tables.base import Entry, Table
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.report.tables.registry import register_table
from estbench.store import Status
from estbench.store.results import MISSING


@dataclass(frozen=True)
class CompletionRow:
    """The planned cells of one estimator on one problem, by seed."""

    problem: str
    estimator: str
    cells: dict[Any, dict[Any, Any]]


@register_table(section="completion")
def completion(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, with a column for each seed."""
    planned = analysis.cells
    rows = [
        CompletionRow(str(problem), str(estimator), {cell["seed"]: cell for cell in group.to_dict("records")})
        for (problem, estimator), group in planned.groupby(["problem", "estimator"], sort=False)
    ]
    fields = [ESTIMATOR, problem_field(analysis), *(_seed_field(seed) for seed in sorted(set(planned["seed"])))]
    caption = (
        "How every planned cell ended. Only cells that are done are in a mean; one that diverged is a result and is "
        "counted as such; one that is missing has not been run."
    )
    return build_table(
        "completion",
        "Completion",
        caption,
        fields,
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _seed_field(seed: Any) -> Field[CompletionRow]:
    """Return the field of one seed: the status of its cell, and where a cell that is not done ended."""

    def write(row: CompletionRow) -> Entry:
        cell = row.cells.get(seed)
        if cell is None:
            return Entry(NOTHING, "not planned")
        done_or_missing = cell["status"] in {Status.DONE, MISSING}
        return Entry(str(cell["status"]), "" if done_or_missing else f"at step {cell['step']:,}")

    return Field(
        f"seed {seed}",
        f"seed {seed}",
        value=lambda row: str(row.cells[seed]["status"]) if seed in row.cells else "",
        entry=write,
        text=True,
    )
