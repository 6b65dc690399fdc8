"""Who is told what happens during a run."""

from __future__ import annotations

from estbench.experiment import Cell, Plan
from estbench.store import ResultsFolder
from estbench.training import Outcome


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
