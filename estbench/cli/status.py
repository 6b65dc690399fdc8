"""``estbench status``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import rich_click as click

from estbench.cli.options import json_option


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@json_option
def command(folder: str, *, as_json: bool) -> None:
    """Show what is planned in a results folder, and how far it is: one line a cell."""
    from estbench.cli.console import console, print_json, print_rows
    from estbench.store import ResultsFolder

    cells = _cells(ResultsFolder(folder))
    counts = Counter(cell["status"] for cell in cells)
    if as_json:
        print_json({"folder": folder, "counts": counts, "cells": cells})
        return
    rows = [
        (
            cell["status"],
            cell["estimator"],
            cell["problem"],
            str(cell["seed"]),
            f"{cell['step']}/{cell['steps']}",
            cell["stop_reason"],
        )
        for cell in cells
    ]
    print_rows(f"cells of {folder}", ("status", "estimator", "problem", "seed", "step", "why"), rows)
    summary = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    console().print(f"{len(cells)} planned: {summary}", highlight=False)


def _cells(folder: Any) -> list[dict[str, Any]]:
    cells = []
    for cell in folder.read_plan()["cells"]:
        status = folder.status(cell["folder"])
        record = folder.read_record(cell["folder"]) or {}
        reason = record.get("stop_reason", "")
        if status is None and folder.has_workspace(cell["folder"]):
            reason = "begun; a run is on it, or was killed and can go on"
        cells.append(
            {
                "status": str(status or "missing"),
                "estimator": cell["estimator"]["label"],
                "problem": cell["problem"]["label"],
                "seed": cell["seed"],
                "step": record.get("step", 0),
                "steps": cell["training"]["steps"],
                "stop_reason": reason,
                "folder": cell["folder"],
                "key": cell["key"],
            }
        )
    return cells
