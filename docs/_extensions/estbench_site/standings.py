"""Where an estimator stands in the committed results."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from estbench.guarded import GuardedPath
from estbench.report.analysis.wording import NOTHING, TIMES, fixed, significant
from estbench.report.site.entries import Entry, make_entry
from estbench.report.site.tables_only import read_tables
from estbench.report.tables.entry import format_interval
from estbench_site.markdown import code, table
from estbench_site.repository import RESULTS


@cache
def committed_entries() -> dict[str, Entry]:
    """Return the committed experiments by the names of their folders, as `estbench site` reads them."""
    folders = sorted(path.parents[1] for path in RESULTS.glob("*/report/experiment.json"))
    return {folder.name: make_entry(read_tables(GuardedPath(folder)), [folder.name], "") for folder in folders}


def standings_table(name: str) -> str:
    """Return one row for each experiment, problem and variant of an estimator; empty if it is in none."""
    rows = [
        [
            f"[{folder}](../experiments/{folder}.md)",
            code(entrant.estimator),
            code(entry.names[board.problem]) if len(entry.boards) > 1 else "",
            NOTHING if entrant.rank is None else f"{entrant.rank} of {len(board.entrants)}",
            format_interval(entrant.bound, lambda nats: fixed(nats, 1)) if entrant.bound.n else NOTHING,
            board.metric.upper(),
            entrant.bound.n,
            f"{significant(entrant.variance.value)} {TIMES}" if entrant.variance.n else NOTHING,
            ", ".join(f"{end}: {count}" for end, count in entrant.ended.items()),
        ]
        for folder, entry in committed_entries().items()
        for board in entry.boards
        for entrant in board.entrants
        if entrant.estimator.partition("[")[0] == name
    ]
    if not rows:
        return ""
    titles = [
        "experiment",
        "variant",
        "problem",
        "rank",
        "test bound, nats",
        "bound",
        "seeds",
        "variance",
        "ended runs",
    ]
    kept = [at for at in range(len(titles)) if any(str(row[at]) for row in rows)]  # columns with something in them
    titles, rows = [titles[at] for at in kept], [[row[at] for at in kept] for row in rows]
    note = (
        "In brackets: the 95 % t interval over seeds. Variance: of the encoder's gradient, relative to the reference of"
        " the experiment. An estimator with a collapsed run has no rank."
    )
    return f"{table(titles, rows)}\n\n{note}"


def report_of(experiment: str) -> Path | None:
    """Return the page of an experiment's committed report; None if there is none."""
    page = RESULTS / experiment / "report" / "report.html"
    return page if page.is_file() else None
