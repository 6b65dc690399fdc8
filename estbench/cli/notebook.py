"""Progress of ``estbench.run`` in Python: a live bar in a notebook, and what the command line shows elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from estbench.cli.console import console
from estbench.cli.progress import REFRESHES_PER_SECOND, LineProgress, progress_listener
from estbench.execution.config import Listener, show_progress_with
from estbench.experiment import Cell, Plan
from estbench.store import ResultsFolder
from estbench.training import Outcome


class NotebookProgress(LineProgress):
    """The lines of a run below a bar for the steps of all its cells; IPython itself draws it, without widgets."""

    def __init__(self) -> None:
        super().__init__()
        from IPython.display import HTML, display  # a notebook has it

        self._html: Any = HTML
        self._bar: Any = display(HTML(""), display_id=True)
        self._drawn = 0.0

    def planned(self, plan: Plan, stored: int) -> None:
        super().planned(plan, stored)
        self._draw()

    def stepped(self, cell: Cell, step: int) -> None:
        super().stepped(cell, step)
        if time.monotonic() - self._drawn > 1 / REFRESHES_PER_SECOND:
            self._draw()

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        super().cell_ended(cell, outcome, folder)
        self._draw()

    def _draw(self) -> None:
        """Show the bar as it is now; nothing in it but numbers."""
        self._drawn = time.monotonic()
        left = self.left()
        self._bar.update(
            self._html(
                f'<progress max="{max(self.steps_to_take, 1)}" value="{sum(self.steps.values())}"></progress> '
                f"{self.ended.total()} of {self.total} runs{f', {left} left' if left else ''}"
            )
        )


@contextlib.contextmanager
def show_progress(wanted: bool | None) -> Iterator[Listener | None]:
    """Return the listener of a run; None if nothing is shown, as outside of a notebook unless it is wanted."""
    if wanted is not False and console().is_jupyter:
        yield NotebookProgress()
    elif wanted:
        with progress_listener() as listener:
            yield listener
    else:
        yield None


show_progress_with(show_progress)
