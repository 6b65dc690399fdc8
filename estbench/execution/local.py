"""Cells on this machine: in this process, or in a fresh one after a cell has left something behind."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from estbench.datasets.own_files import relative_to
from estbench.execution.config import Listener, RunConfig
from estbench.execution.planning import load_plugins
from estbench.execution.task import execute
from estbench.experiment import Cell
from estbench.experiment.plan import cell_from_record
from estbench.processes import end_with_parent, started_without_script
from estbench.store import Status
from estbench.training import Interrupts, Outcome
from estbench.training.isolation import threads_left


def compute_here(
    cells: Iterable[Cell],
    config: RunConfig,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Iterator[tuple[Cell, Outcome]]:
    """Compute one cell after the other, in the order of the plan; ``prepare`` is called right before each."""
    apart = False
    for cell in cells:
        if interrupted():
            return
        prepare(cell)
        if (threads := threads_left()) and not apart:
            apart = True
            listener.noted(
                f"a plugin left threads running ({', '.join(threads)}), which may draw random numbers: from now on "
                "each run is computed in its own process"
            )
        yield (
            cell,
            compute(
                cell,
                config,
                interrupted=interrupted,
                on_step=lambda step, cell=cell: listener.stepped(cell, step),  # type: ignore[misc]
                on_phase=lambda name, cell=cell: listener.phase(cell, name),  # type: ignore[misc]
                begun=lambda cell=cell: listener.cell_started(cell),  # type: ignore[misc]
            ),
        )


PROCESS = "estbench cell"
POLL_SECONDS = 0.2


def compute(
    cell: Cell,
    config: RunConfig,
    *,
    interrupted: Callable[[], bool],
    on_step: Callable[[int], None],
    on_phase: Callable[[str], None],
    begun: Callable[[], None],
    ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute a cell here, as ``execute`` does, or in a fresh process if a plugin's threads still run in this one."""
    while threads_left():
        outcome = _in_fresh_process(cell, config, interrupted, on_step, on_phase, begun)
        if outcome is not None:
            return outcome
        if interrupted():
            return Outcome(Status.INTERRUPTED, "its process ended first; run again to resume")
    return execute(cell, config, interrupted=interrupted, on_step=on_step, on_phase=on_phase, begun=begun, ready=ready)


def _in_fresh_process(
    cell: Cell,
    config: RunConfig,
    interrupted: Callable[[], bool],
    on_step: Callable[[int], None],
    on_phase: Callable[[str], None],
    begun: Callable[[], None],
) -> Outcome | None:
    """Return the outcome of a cell; None if its process died (the count of its tries will end it)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_child, args=(theirs, cell.as_dict(), replace(config, exit_if_hung=True)), name=PROCESS, daemon=True
    )
    with started_without_script(PROCESS):
        process.start()
    theirs.close()
    asked = False
    try:
        while True:
            if interrupted() and not asked:
                asked = True
                process.terminate()
            if not ours.poll(POLL_SECONDS):
                continue
            kind, value = ours.recv()
            if kind == "begun":
                begun()
            elif kind == "step":
                on_step(value)
            elif kind == "phase":
                on_phase(value)
            elif kind == "outcome":
                outcome: Outcome = value
                return outcome
            else:
                raise value
    except (EOFError, ConnectionResetError):
        return None
    finally:
        ours.close()
        process.join(POLL_SECONDS)
        process.kill()
        process.join()


def _child(pipe: Connection, record: dict[str, Any], config: RunConfig) -> None:
    """Compute the cell of a record, and send its progress; ignore Ctrl-C, because the parent asks by SIGTERM."""
    end_with_parent()
    relative_to(config.current_folder)
    with Interrupts() as interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            outcome = execute(
                cell_from_record(record),
                config,
                interrupted=interrupted,
                on_step=lambda step: pipe.send(("step", step)),
                on_phase=lambda name: pipe.send(("phase", name)),
                begun=lambda: pipe.send(("begun", None)),
                ready=lambda: load_plugins(config.plugins),
            )
        except Exception as error:  # noqa: BLE001  (a full disk, for example: the parent raises it)
            pipe.send(("error", error))
            return
        pipe.send(("outcome", outcome))
