"""The list of all runs: how each ended, where, and what it cost."""

from __future__ import annotations

import math
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import RUN
from estbench.report.analysis.wording import fixed, format_count
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field
from estbench.report.tables.registry import register_table
from estbench.store import Status

CLOCKS = ("training", "evaluation", "probe")


@register_table(section="completion", order=30, folded="Every run: where it ended and what it took")
def cells(analysis: Analysis) -> Table:
    """Return one row per planned run."""
    fields: list[Field[dict[str, Any]]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("seed", "seed", short="seed"),
        Field("status", "status", entry=lambda cell: Entry(str(cell["status"]), str(cell["stop_reason"])), text=True),
        Field("stop_reason"),
        Field("test_elbo", "test ELBO", entry=_write_bound, keep=True, best="high", short="ELBO"),
        Field("step", "steps", write=format_count, short="steps"),
        Field("last_finite_elbo"),
        *(
            Field(f"{clock}_seconds", f"{clock} s", write=lambda seconds: fixed(float(seconds), 1), best="low")
            for clock in CLOCKS
        ),
        Field("evaluations", "evaluations", write=format_count, best="low"),
        Field("folder"),
    ]
    caption = (
        "Every planned run: one estimator on one problem with one seed. A run that is not done has no final bound. The "
        "seconds are those of its parts."
    )
    return build_table(
        "cells",
        "Runs",
        caption,
        fields,
        _find_rows(analysis),
        csv_first=("problem", "estimator"),
        blocks=("problem", "estimator"),
        short_caption="Final test bounds of every run, in nats per example.",
    )


def _find_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the planned runs, each with its final test ELBO and the last one that was finite."""
    finals = analysis.final_values().set_index(RUN)
    unknown: dict[str, Any] = {f"{clock}_seconds": math.nan for clock in CLOCKS}
    rows = []
    for cell in analysis.cells.to_dict("records"):
        run = tuple(cell[key] for key in RUN)
        last = finals.loc[run] if run in finals.index else None
        elbo, step = (math.nan, 0) if last is None else (float(last["value"]), int(last["step"]))
        final = elbo if cell["status"] == Status.DONE else math.nan
        bounds = {"test_elbo": final, "last_finite_elbo": elbo, "last_finite_step": step}
        rows.append(unknown | {str(key): value for key, value in cell.items()} | bounds)
    order = {problem: order_by_rank(analysis, problem) for problem in analysis.problems}
    problems = analysis.problems
    return sorted(
        rows,
        key=lambda row: (problems.index(row["problem"]), order[row["problem"]].index(row["estimator"]), row["seed"]),
    )


def _write_bound(cell: dict[str, Any]) -> Entry:
    """Return the entry of a final bound; for a run that is not done, with its last finite bound in small print."""
    text, last = fixed(cell["test_elbo"]), cell["last_finite_elbo"]
    if cell["status"] == Status.DONE or math.isnan(last):
        return Entry(text)
    return Entry(text, f"last finite: {fixed(last)} at step {cell['last_finite_step']:,}")
