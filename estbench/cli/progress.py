"""Progress of a run: a live bar on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from estbench.cli.console import console
from estbench.execution import Listener
from estbench.experiment import Cell, Plan
from estbench.store import ResultsFolder, Status
from estbench.training import Outcome

# Redrawing takes time from training: four times a second is live enough.
REFRESHES_PER_SECOND = 4


class Lines(Listener):
    """One plain line per event; ``after_cell`` is called when a cell has left its record."""

    def __init__(self, after_cell: Callable[[ResultsFolder], None] | None = None) -> None:
        self.after_cell = after_cell
        self.total = 0
        self.index = 0
        self.started = 0.0

    def planned(self, plan: Plan, stored: int, set_aside: int) -> None:
        self.total = len(plan) - stored
        console().print(
            f"{plan.experiment.name}: {len(plan)} cells, {stored} stored, {self.total} to run",
            highlight=False,
        )
        if set_aside:
            console().print(
                f"{set_aside} cells of an earlier protocol stay in the folder, out of its plan and its report",
                highlight=False,
            )

    def cell_started(self, cell: Cell) -> None:
        self.index += 1
        self.started = time.monotonic()

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        colour = {Status.DONE: "green", Status.INTERRUPTED: "yellow"}.get(outcome.status, "red")
        reason = f": {outcome.reason}" if outcome.reason else ""
        console().print(
            f"[{colour}]{outcome.status}[/] [{self.index}/{self.total}] {escape(name_of(cell))}"
            f" in {time.monotonic() - self.started:.1f} s{escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )
        if self.after_cell is not None:
            self.after_cell(folder)

    def timing(self, labels: list[str]) -> None:
        console().print(f"timing {escape(', '.join(labels))}", highlight=False, soft_wrap=True)


class Bars(Lines):
    """The same lines above a live bar."""

    def __init__(self, progress: Progress, after_cell: Callable[[ResultsFolder], None] | None = None) -> None:
        super().__init__(after_cell)
        self.progress = progress
        self.cells: TaskID | None = None
        self.steps: TaskID | None = None

    def planned(self, plan: Plan, stored: int, set_aside: int) -> None:
        super().planned(plan, stored, set_aside)
        if self.total:
            self.cells = self.progress.add_task("cells", total=self.total)

    def cell_started(self, cell: Cell) -> None:
        super().cell_started(cell)
        self.steps = self.progress.add_task(escape(name_of(cell)), total=cell.training.steps)

    def stepped(self, cell: Cell, step: int) -> None:
        if self.steps is not None:
            self.progress.update(self.steps, completed=step)

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        if self.steps is not None:
            self.progress.remove_task(self.steps)
        if self.cells is not None:
            self.progress.advance(self.cells)
        super().cell_ended(cell, outcome, folder)


def name_of(cell: Cell) -> str:
    """A cell as people call it."""
    return f"{cell.estimator.label} on {cell.problem.name}, seed {cell.seed}"


@contextlib.contextmanager
def progress_listener(after_cell: Callable[[ResultsFolder], None] | None = None) -> Iterator[Listener]:
    """A listener that suits standard output."""
    if not console().is_terminal:
        yield Lines(after_cell)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, refresh_per_second=REFRESHES_PER_SECOND) as progress:
        yield Bars(progress, after_cell)
