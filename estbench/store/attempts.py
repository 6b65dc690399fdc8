"""Attempt markers: how often a cell was begun by a process that then died."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from estbench.experiment import Cell
from estbench.guarded import GuardedPath
from estbench.store.folder import ResultsFolder
from estbench.store.lock import held

WAIT_SECONDS = 0.2
MOST_READ = 100_000


@contextlib.contextmanager
def attempt(folder: ResultsFolder, cell: Cell, interrupted: Callable[[], bool]) -> Iterator[int]:
    """Hold a cell alone, mark the attempt, and yield how many before it died without getting anywhere.

    The marker is a line of the file that is the cell's lock. Whoever leaves this block, by an exception even, removes
    it: only the death of the process leaves it behind. A line says which checkpoint its attempt began from, so an
    attempt that left a newer checkpoint is not counted: it was preempted, and the cell gets on. Nothing here looks at
    a clock.

    Where another process is on the cell (a worker that has outlived its run) this waits for its end; raises
    ``BlockingIOError`` if interrupted meanwhile.
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                file = stack.enter_context(held(_marker(folder, cell)))
                break
            except BlockingIOError:
                if interrupted():
                    raise
                time.sleep(WAIT_SECONDS)
        origin = _origin(folder, cell)
        file.seek(0)
        earlier = file.read(MOST_READ).splitlines().count(origin)
        file.write(f"{origin}\n")
        file.flush()
        os.fsync(file.fileno())
        yield earlier


def _origin(folder: ResultsFolder, cell: Cell) -> str:
    """Which checkpoint an attempt begins from; equal for two attempts if the first got nowhere."""
    if not folder.has_workspace(cell.folder):
        return "no checkpoint"
    try:
        found = (folder.workspace(cell) / "checkpoint.pt").stat()
    except FileNotFoundError:
        return "no checkpoint"
    return f"checkpoint {found.st_mtime_ns} {found.st_size}"


def forget_attempts(folder: ResultsFolder, cell: Cell) -> None:
    """Let a cell begin with no attempts to its name; those of a process that is on it stay."""
    with contextlib.suppress(BlockingIOError), held(_marker(folder, cell)):
        pass


def _marker(folder: ResultsFolder, cell: Cell) -> GuardedPath:
    return folder.cells / f".{cell.folder}.attempts"
