"""The completion grid: how the run of every estimator and seed ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.wording import NOTHING
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field
from estbench.report.tables.registry import register_table
from estbench.store import Status
from estbench.store.results import MISSING


@dataclass(frozen=True)
class CompletionRow:
    """The planned runs of one estimator on one problem, by seed."""

    problem: str
    estimator: str
    cells: dict[Any, dict[Any, Any]]

    def count_done(self) -> str:
        """Return how many of the runs are done."""
        return f"{sum(cell['status'] == Status.DONE for cell in self.cells.values())} of {len(self.cells)}"


@register_table(section="completion")
def completion(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, with a column for each seed."""
    planned = analysis.cells
    groups = dict(iter(planned.groupby(["problem", "estimator"], sort=False)))
    rows = [
        CompletionRow(
            problem, estimator, {cell["seed"]: cell for cell in groups[problem, estimator].to_dict("records")}
        )
        for problem in analysis.problems
        for estimator in order_by_rank(analysis, problem)
    ]
    done: Field[CompletionRow] = Field("done", "done", CompletionRow.count_done, best="high", short="done")
    fields = [ESTIMATOR, problem_field(analysis), done, *(_seed_field(seed) for seed in sorted(set(planned["seed"])))]
    caption = (
        "How every planned run ended. Means are over the runs that are done. A run that diverged is a result, and is "
        "counted as such; a run that is missing has not been started."
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
    """Return the field of one seed: the status of its run, and where a run that is not done ended."""

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
        keep=True,
    )
