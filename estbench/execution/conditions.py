"""What every cell of a run is told, and who is told what happens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from estbench.experiment import Cell, Plan
from estbench.store import ResultsFolder
from estbench.training import Outcome


@dataclass(frozen=True)
class Conditions:
    """The results folder and how to compute; none of it is part of a cell's key."""

    folder: Path
    device: str
    threads: int
    engine: str = "in-process"
    slots: int = 1
    timeout: float | None = None
    keep_checkpoints: bool = False
    exit_if_hung: bool = False
    plugins: tuple[Path, ...] = ()
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a record tells of them."""
        return {"engine": self.engine, "slots": self.slots, "timeout": self.timeout}


class Listener:
    """Is told what happens, always from the thread that called ``run``; this one keeps it to itself."""

    def planned(self, plan: Plan, stored: int) -> None:
        """A run begins; ``stored`` of its cells are there already."""

    def cell_started(self, cell: Cell) -> None:
        """A cell begins, or goes on from its checkpoint; once more after its worker has died."""

    def stepped(self, cell: Cell, step: int) -> None:
        """A cell has come to ``step``."""

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        """A cell has left its record in ``folder``."""

    def noted(self, remark: str) -> None:
        """Something that people should know, in one line."""

    def timing(self, labels: list[str]) -> None:
        """Throughput is about to be measured for these estimators."""
