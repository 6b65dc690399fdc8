"""Progress of a run, whatever runs its cells: live bars on a terminal, one line per event elsewhere.

A *cell* is called a run here, as in everything that people read.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from estbench.cli.console import console, fold, say
from estbench.cli.layout import wrap
from estbench.execution import Listener
from estbench.experiment import Cell, Plan
from estbench.experiment.sweep import swept_training
from estbench.store import ResultsFolder, Status
from estbench.training import Outcome
from estbench.variant import Variant
from estbench.visible import visible

# Redrawing takes time from training: four times a second is live enough.
REFRESHES_PER_SECOND = 4
# Bars of running cells that a screen has room for; the others are counted.
MOST_BARS = 8
BAR_WIDTH = 20
# Beside the text and the bar: "2000/2000 evaluating", and the blanks between.
ROOM_FOR_COUNTS = 26
# An estimate of the time left is made from this share of all steps on, or from the first cell that has ended.
ENOUGH = 0.05
# What a cell does, by the clock that runs.
PHASES = {"training": "training", "evaluation": "evaluating", "probe": "probing", "writing": "saving"}
STARTING, TIMING = "starting", "timing"


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
        self.reasons: set[str] = set()

    def planned(self, plan: Plan, stored: int) -> None:
        self.plan = plan
        self.total = len(plan) - stored
        self.steps_to_take = round(sum(cell.training.steps for cell in plan) * self.total / len(plan))
        self.names = name_cells(plan)
        say(describe_plan(plan, stored))

    def cell_started(self, cell: Cell) -> None:
        self.running[cell.key] = time.monotonic()
        self.began = self.began or time.monotonic()

    def stepped(self, cell: Cell, step: int) -> None:
        self.steps[cell.key] = step

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        seconds = time.monotonic() - self.running.pop(cell.key, time.monotonic())
        interrupted = outcome.status is Status.INTERRUPTED
        if not interrupted:
            self.ended[outcome.status] += 1
            self.steps[cell.key] = cell.training.steps
        colour = {Status.DONE: "green", Status.INTERRUPTED: "yellow"}.get(outcome.status, "red")
        count = "" if interrupted else f" [{self.ended.total()}/{self.total}]"
        left = "" if interrupted else self.left()
        text = f"{outcome.status}{count} {self.names[cell.key]} in {seconds:.1f} s{self._reason(outcome)}"
        lines = fold(visible(f"{text}; {left} left" if left else text), hang="  ")
        shown = Text("\n".join(lines))
        shown.stylize(colour, 0, len(outcome.status))
        console().print(shown, soft_wrap=True)

    def noted(self, remark: str) -> None:
        say(remark)

    def timing(self, labels: list[str]) -> None:
        say(f"timing {', '.join(labels)}")

    def left(self) -> str:
        """Return roughly how long it takes until all cells have ended; nothing while that cannot be known."""
        taken, left = sum(self.steps.values()), self.total - self.ended.total()
        if not left or not (self.ended.total() or taken >= ENOUGH * self.steps_to_take) or not taken:
            return ""
        return say_roughly((time.monotonic() - self.began) / taken * (self.steps_to_take - taken))

    def _reason(self, outcome: Outcome) -> str:
        """Return why a cell has ended; a reason that was told before is not told again."""
        if not outcome.reason:
            return ""
        if outcome.reason in self.reasons:
            return ": the same reason"
        self.reasons.add(outcome.reason)
        return f": {outcome.reason}"


class BarProgress(LineProgress):
    """The same lines above live bars: one for all cells, and one for each of some running cells with its phase."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.cells: TaskID | None = None
        self.bars: dict[str, TaskID] = {}
        self.rounds: TaskID | None = None

    def planned(self, plan: Plan, stored: int) -> None:
        super().planned(plan, stored)
        if self.total:
            self.cells = self.progress.add_task("runs", total=self.total, note="")

    def cell_started(self, cell: Cell) -> None:
        super().cell_started(cell)
        if cell.key not in self.bars and len(self.bars) < MOST_BARS:
            name = fit_bar(self.names[cell.key])
            self.bars[cell.key] = self.progress.add_task(name, total=cell.training.steps, note=STARTING)
        self._count()

    def phase(self, cell: Cell, name: str) -> None:
        super().phase(cell, name)
        if cell.key in self.bars:
            self.progress.update(self.bars[cell.key], note=PHASES.get(name, name))

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

    def timing(self, labels: list[str]) -> None:
        super().timing(labels)
        if self.rounds is not None:
            self.progress.remove_task(self.rounds)
        self.rounds = self.progress.add_task(f"{TIMING}: rounds", total=None, note="")

    def timed(self, done: int, rounds: int) -> None:
        super().timed(done, rounds)
        if self.rounds is not None:
            self.progress.update(self.rounds, completed=done, total=rounds)

    def _count(self) -> None:
        """Show the counts of running, done, diverged and failed cells, and the time left."""
        if self.cells is None:
            return
        counts = {"running": len(self.running), **{str(status): count for status, count in self.ended.items()}}
        described = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        left = self.left()
        note = f"{left} left" if left else ""
        text = fit_bar(f"runs: {described}")
        self.progress.update(self.cells, completed=self.ended.total(), description=text, note=note)


def fit_bar(text: str) -> str:
    """Return a text as the lines that have room before a bar."""
    return "\n".join(wrap(text, max(20, console().width - BAR_WIDTH - ROOM_FOR_COUNTS)))


def say_roughly(seconds: float) -> str:
    """Return a duration in round words, no more precise than an estimate is.

    >>> [say_roughly(seconds) for seconds in (4, 33, 700, 2410, 9100, 200_000)]
    ['a few seconds', '~30 s', '~12 min', '~40 min', '~2.5 h', '~2 days']
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"~{round(seconds, -1):.0f} s"
    minutes = seconds / 60
    if minutes < 15:
        return f"~{minutes:.0f} min"
    if minutes < 57.5:
        return f"~{5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 36:
        return f"~{hours:.0f} h" if hours >= 9.75 else f"~{round(2 * hours) / 2:g} h"
    return f"~{hours / 24:.0f} days"


def describe_plan(plan: Plan, stored: int) -> str:
    """Return the line with which a run begins: what there is to do."""
    problems = {cell.problem.label for cell in plan}
    where = f" on {problems.pop()}" if len(problems) == 1 else ""
    axes = ["estimator", *(["problem"] if problems else []), *swept_training(plan.experiment.sweep), "seed"]
    runs = f"{len(plan):,} run{'' if len(plan) == 1 else 's'} ({' x '.join(axes)})"
    return f"{plan.experiment.name}{where}: {runs}: {stored:,} already done, {len(plan) - stored:,} to do"


def name_cells(plan: Plan) -> dict[str, str]:
    """Return readable names of cells by key, with the options and swept settings that distinguish them."""
    problems = _name_problems(plan)
    swept = swept_training(plan.experiment.sweep)
    return {
        cell.key: f"{cell.estimator.label} on {problems[cell.problem.label]}, seed {cell.seed}"
        + "".join(f", {name} {getattr(cell.training, name)}" for name in swept)
        for cell in plan
    }


def _name_problems(plan: Plan) -> dict[str, str]:
    """Return short names of problems by label: without the options that all problems of the same name share."""
    problems = {cell.problem.label: cell.problem for cell in plan}
    names = {}
    for label, problem in problems.items():
        others = [other.options for other in problems.values() if other.name == problem.name]
        apart = {key: value for key, value in problem.options.items() if any(each.get(key) != value for each in others)}
        names[label] = str(Variant(problem.name, apart))
    return names if len(set(names.values())) == len(problems) else {label: label for label in problems}


@contextlib.contextmanager
def progress_listener() -> Iterator[LineProgress]:
    """Return a listener for standard output: live bars on a terminal, lines elsewhere."""
    if not console().is_terminal:
        yield LineProgress()
        return
    words, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = (words, BarColumn(BAR_WIDTH), MofNCompleteColumn(), note)
    with Progress(*columns, console=console(), transient=True, refresh_per_second=REFRESHES_PER_SECOND) as progress:
        yield BarProgress(progress)
