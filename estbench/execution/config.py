"""The settings of a run, and the listener that is called when something happens."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from estbench.errors import EstbenchError
from estbench.experiment import Cell, Plan
from estbench.store import ResultsFolder
from estbench.training import Outcome


@dataclass(frozen=True)
class RunConfig:
    """The results folder and how to compute: plain data, sent to workers; none of it is part of a cell's key."""

    folder: Path
    device: str
    threads: int
    engine: str = "in-process"
    slots: int = 1
    timeout: float | None = None
    keep_checkpoints: bool = False
    exit_if_hung: bool = False
    plugins: tuple[Path, ...] = ()
    current_folder: Path = field(default_factory=Path.cwd)  # relative paths of data start from it, on workers too
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def provenance(self) -> dict[str, Any]:
        """The part that is written into a cell's record."""
        return {"engine": self.engine, "slots": self.slots, "timeout": self.timeout, "run": self.run}


class Listener:
    """Is called when something happens, always from the thread that called ``run``; this one does nothing."""

    def planned(self, plan: Plan, stored: int) -> None:
        """A run begins; ``stored`` of its cells have a result already."""

    def cell_started(self, cell: Cell) -> None:
        """A cell begins, or resumes from its checkpoint; called again if its worker died."""

    def phase(self, cell: Cell, name: str) -> None:
        """A cell does something else from now on: ``training``, ``evaluation``, ``probe`` or ``writing``."""

    def stepped(self, cell: Cell, step: int) -> None:
        """A cell has reached ``step``."""

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        """A cell has ended, and its record is in ``folder``."""

    def noted(self, remark: str) -> None:
        """A message for the user, in one line."""

    def timing(self, labels: list[str]) -> None:
        """Throughput is about to be measured for these estimators."""

    def timed(self, done: int, rounds: int) -> None:
        """So many rounds of the throughput are measured, of so many."""


ShowProgress = Callable[[bool | None], AbstractContextManager[Listener | None]]
_show_with: ShowProgress | None = None


def show_progress_with(show: ShowProgress) -> None:
    """Set what shows the progress of ``run``: the command line is above this package, and names itself here."""
    global _show_with  # noqa: PLW0603  (one for the process)
    _show_with = show


@contextlib.contextmanager
def listening(listener: Listener | None, *, progress: bool | None) -> Iterator[Listener]:
    """Return the listener of a run: the given one, or one that shows its progress if that is wanted."""
    if listener is not None:
        yield listener
    elif _show_with is None:
        if progress:
            raise EstbenchError("progress is shown by the command line: call estbench.run, or give a listener")
        yield Listener()
    else:
        with _show_with(progress) as shown:
            yield shown or Listener()
