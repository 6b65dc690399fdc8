"""Progress: what is said as cells begin, step and end, in whatever order."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from estbench.cli import progress
from estbench.execution.planning import as_experiment, plan_of
from estbench.store import Status
from estbench.training import Outcome


@pytest.fixture
def cells(tiny):
    return plan_of(as_experiment({**tiny, "seeds": 12}))


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_count_what_has_ended_and_say_what_is_left(cells, capsys, clock):
    lines = progress.LineProgress()
    lines.planned(cells, stored=8)
    first, second, third, fourth = cells.cells[:4]
    lines.cell_started(first)
    lines.cell_started(second)
    clock[0] += 10
    lines.stepped(first, 20)
    lines.cell_ended(second, Outcome(Status.DONE), None)
    lines.cell_started(third)
    clock[0] += 10
    lines.cell_ended(first, Outcome(Status.DIVERGED, "at step [7]"), None)
    lines.cell_ended(third, Outcome(Status.INTERRUPTED, "stopped"), None)
    lines.cell_ended(fourth, Outcome(Status.FAILED, "broken"), None)
    assert capsys.readouterr().out.splitlines() == [
        "PLANLINE",
        "done [1/4] reparam on vae, seed 1 in 10.0 s; ~10 s left",
        "diverged [2/4] reparam on vae, seed 0 in 20.0 s: at step [7]; ~20 s left",
        "interrupted reparam on vae, seed 2 in 10.0 s: stopped",
        "failed [3/4] reparam on vae, seed 3 in 0.0 s: broken; a few seconds left",
    ]


def test_bars_count_those_that_run_and_show_some_of_them(cells, capsys, clock):
    bars = progress.BarProgress(Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO())))
    bars.planned(cells, stored=0)
    for cell in cells:
        bars.cell_started(cell)
        bars.cell_started(cell)  # its worker died, and it begins again
    shown = [task.description for task in bars.progress.tasks]
    assert shown[0] == "runs: 12 running"
    assert len(shown) == 1 + progress.MOST_BARS
    for cell in cells.cells[:2]:
        bars.stepped(cell, 10)
        bars.cell_ended(cell, Outcome(Status.DONE), None)
    bars.cell_ended(cells.cells[2], Outcome(Status.FAILED, "broken"), None)
    overall = bars.progress.tasks[0]
    assert overall.description == "runs: 9 running, 2 done, 1 failed"
    assert overall.completed == 3
    assert overall.fields["note"].endswith("left")
    for cell in cells.cells[3:]:
        bars.cell_ended(cell, Outcome(Status.DONE), None)
    assert bars.progress.tasks[0].fields["note"] == ""
    assert len(bars.progress.tasks) == 1
