"""Progress of a run, whatever runs its cells: live bars on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from estbench.cli.console import console, line, say
from estbench.execution import Listener
from estbench.experiment import Cell, Plan
from estbench.experiment.sweep import swept_training
from estbench.store import ResultsFolder, Status
from estbench.training import Outcome

# Redrawing takes time from training: four times a second is live enough.
REFRESHES_PER_SECOND = 4
# Bars of running cells that a screen has room for; the others are counted.
MOST_BARS = 8


class LineProgress(Listener):
    """One plain line per event."""

    plan: Plan  # of the run, once it has begun

    def __init__(self) -> None:
        self.total = 0
        self.names: dict[str, str] = {}
        self.ended: Counter[Status] = Counter()
        self.running: dict[str, float] = {}  # when each cell began, by its key
        self.began = 0.0
        self.steps: dict[str, int] = {}
        self.steps_to_take = 0

    def planned(self, plan: Plan, stored: int) -> None:
        self.plan = plan
        self.total = len(plan) - stored
        self.steps_to_take = round(sum(cell.training.steps for cell in plan) * self.total / len(plan))
        self.names = name_cells(plan)
        say(f"{plan.experiment.name}: {len(plan)} cells, {stored} stored, {self.total} to run")

    def cell_started(self, cell: Cell) -> None:
        self.running[cell.key] = time.monotonic()
        self.began = self.began or time.monotonic()

    def stepped(self, cell: Cell, step: int) -> None:
        self.steps[cell.key] = step

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        self.ended[outcome.status] += 1
        self.steps[cell.key] = cell.training.steps
        colour = {Status.DONE: "green", Status.INTERRUPTED: "yellow"}.get(outcome.status, "red")
        reason = f": {outcome.reason}" if outcome.reason else ""
        seconds = time.monotonic() - self.running.pop(cell.key, time.monotonic())
        going_on = self.ended.total() < self.total and outcome.status is not Status.INTERRUPTED
        left = f"; {self.left()} left" if going_on else ""
        text = f" [{self.ended.total()}/{self.total}] {self.names[cell.key]} in {seconds:.1f} s{reason}{left}"
        console().print(Text.assemble((str(outcome.status), colour), line(text)), soft_wrap=True)

    def noted(self, remark: str) -> None:
        say(remark)

    def timing(self, labels: list[str]) -> None:
        say(f"timing {', '.join(labels)}")

    def left(self) -> str:
        """Return the time until all cells have ended, at the average rate so far."""
        taken = sum(self.steps.values())
        if not taken:
            return "some time"
        seconds = (time.monotonic() - self.began) / taken * (self.steps_to_take - taken)
        return f"about {timedelta(seconds=round(seconds))}"


class BarProgress(LineProgress):
    """The same lines above live bars: one for all cells, and one for each of some running cells."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.cells: TaskID | None = None
        self.bars: dict[str, TaskID] = {}

    def planned(self, plan: Plan, stored: int) -> None:
        super().planned(plan, stored)
        if self.total:
            self.cells = self.progress.add_task("cells", total=self.total, left="")

    def cell_started(self, cell: Cell) -> None:
        super().cell_started(cell)
        if cell.key not in self.bars and len(self.bars) < MOST_BARS:
            self.bars[cell.key] = self.progress.add_task(self.names[cell.key], total=cell.training.steps, left="")
        self._count()

    def stepped(self, cell: Cell, step: int) -> None:
        super().stepped(cell, step)
        if cell.key in self.bars:
            self.progress.update(self.bars[cell.key], completed=step)
        self._count()

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        if cell.key in self.bars:
            self.progress.remove_task(self.bars.pop(cell.key))
        super().cell_ended(cell, outcome, folder)
        self._count()

    def _count(self) -> None:
        """Show the counts of running, done, diverged and failed cells, and the time left."""
        if self.cells is None:
            return
        counts = {"running": len(self.running), **{str(status): count for status, count in self.ended.items()}}
        described = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        ended = self.ended.total()
        left = f"{self.left()} left" if ended < self.total else ""
        self.progress.update(self.cells, completed=ended, description=f"cells: {described}", left=left)


def name_cells(plan: Plan) -> dict[str, str]:
    """Return readable names of cells by key, with the options and swept settings that distinguish them."""
    problems = {id(cell.problem): cell.problem for cell in plan}.values()
    alike = len({problem.name for problem in problems}) < len(problems)
    swept = swept_training(plan.experiment.sweep)
    return {
        cell.key: f"{cell.estimator.label} on {cell.problem.label if alike else cell.problem.name}, seed {cell.seed}"
        + "".join(f", {name} {getattr(cell.training, name)}" for name in swept)
        for cell in plan
    }


@contextlib.contextmanager
def progress_listener() -> Iterator[LineProgress]:
    """Return a listener for standard output: live bars on a terminal, lines elsewhere."""
    if not console().is_terminal:
        yield LineProgress()
        return
    words, left = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[left]}"))
    columns = (words, BarColumn(), MofNCompleteColumn(), left)
    with Progress(*columns, console=console(), transient=True, refresh_per_second=REFRESHES_PER_SECOND) as progress:
        yield BarProgress(progress)
