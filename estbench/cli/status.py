"""``estbench status``."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option

if TYPE_CHECKING:
    from estbench.store import ResultsFolder

# With more cells than this, one line counts all cells of an estimator on a problem.
MOST_LINES = 500
# The fields of every cell; all others are swept settings.
NAMED = ("status", "estimator", "problem", "seed", "step", "steps", "stop_reason", "remarks", "folder", "key")
NO_RECORD: dict[str, Any] = {}
STARTED = "started: it is running, or was stopped (run again to resume)"


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@json_option
def command(folder: str, *, as_json: bool) -> None:
    """Show the planned runs of a results folder and how far they are: one line per run.

    More than 500 runs are counted by problem and estimator; --json names each of them.
    """
    from estbench.cli.console import print_json, print_rows, say
    from estbench.store import ResultsFolder

    cells = _cells(ResultsFolder(folder))
    counts = Counter(cell["status"] for cell in cells)
    if as_json:
        print_json({"folder": folder, "counts": counts, "cells": cells})
        return
    columns, rows = (_grouped if len(cells) > MOST_LINES else _one_by_one)(cells)
    print_rows(f"runs of {folder}", columns, rows, group="problem", elsewhere="--json")
    if any(cell["remarks"] for cell in cells):
        from estbench.report.analysis.omissions import remarks

        for remark in remarks(cells):
            say(remark)
    say(f"{len(cells):,} planned: {_list_counts(counts)}")


def _cells(folder: ResultsFolder) -> list[dict[str, Any]]:
    """Return every planned cell with its status; the folder is listed once, and only existing records are read.

    The tables are read too if there are few cells, so that damage is reported; for many it would take minutes.
    """
    from estbench.experiment.sweep import swept_training

    plan = folder.read_plan()
    swept = swept_training(plan["experiment"].get("sweep", {}))
    present = folder.present()
    thorough = len(plan["cells"]) <= MOST_LINES
    cells = []
    for cell in plan["cells"]:
        name = cell["folder"]
        status, reason, record = "missing", "", NO_RECORD
        if name in present:
            status, reason, record = _read(folder, name, thorough=thorough)
        if f".{name}.partial" in present and status == "missing":
            reason = reason or STARTED
        cells.append(
            {
                "status": status,
                "estimator": cell["estimator"]["label"],
                "problem": cell["problem"]["label"],
                "seed": cell["seed"],
                **{setting: cell["training"][setting] for setting in swept},
                "step": record.get("step", 0),
                "steps": cell["training"]["steps"],
                "stop_reason": reason,
                "remarks": record.get("remarks", []),
                "folder": name,
                "key": cell["key"],
            }
        )
    return cells


def _read(folder: ResultsFolder, name: str, *, thorough: bool) -> tuple[str, str, dict[str, Any]]:
    """Return status, reason and record of a cell; a damaged record counts as missing, and the reason says so."""
    from estbench.guarded import DamagedError

    try:
        record = folder.read_record(name, thorough=thorough) or {}
    except DamagedError as error:
        return "missing", f"damaged: {error}", NO_RECORD
    return str(record.get("status", "missing")), str(record.get("stop_reason", "")), record


def _one_by_one(cells: list[dict[str, Any]]) -> tuple[list[Column], list[list[str]]]:
    """Return columns and rows with one line per cell."""
    swept = [name for name in (cells[0] if cells else {}) if name not in NAMED]
    columns = [
        Column("status", keep=True),
        Column("estimator", "name", keep=True),
        Column("problem", "name"),
        *(Column(name, "number") for name in (*swept, "seed", "step")),
        Column("reason"),
    ]
    rows = [
        [
            *(str(cell[name]) for name in ("status", "estimator", "problem", *swept, "seed")),
            f"{cell['step']}/{cell['steps']}",
            cell["stop_reason"],
        ]
        for cell in cells
    ]
    return columns, rows


def _grouped(cells: list[dict[str, Any]]) -> tuple[list[Column], list[list[str]]]:
    """Return columns and rows with one line per estimator and problem."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for cell in cells:
        counts[cell["estimator"], cell["problem"]][cell["status"]] += 1
    columns = [Column("estimator", "name", keep=True), Column("problem", "name"), Column("runs", keep=True)]
    return columns, [[*names, _list_counts(statuses)] for names, statuses in counts.items()]


def _list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
