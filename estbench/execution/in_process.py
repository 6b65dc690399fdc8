"""The default: cells in this process, one after the other, each leaving its record before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from estbench.execution.conditions import Conditions
from estbench.execution.fresh import compute
from estbench.execution.listener import Listener
from estbench.experiment import Cell
from estbench.training import Outcome
from estbench.training.threads import threads_left


def in_process(
    cells: Iterable[Cell],
    conditions: Conditions,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Iterator[tuple[Cell, Outcome]]:
    """One cell after the other, in the order of the plan; ``prepare`` is called right before each."""
    apart = False
    for cell in cells:
        if interrupted():
            return
        prepare(cell)
        if (threads := threads_left()) and not apart:
            apart = True
            listener.noted(
                f"a plugin left threads running ({', '.join(threads)}), which may draw random numbers: from here on "
                "each cell gets a process of its own"
            )
        yield (
            cell,
            compute(
                cell,
                conditions,
                interrupted=interrupted,
                on_step=lambda step, cell=cell: listener.stepped(cell, step),  # type: ignore[misc]
                begun=lambda cell=cell: listener.cell_started(cell),  # type: ignore[misc]
            ),
        )
