"""Attempt markers: they count how often a process died while it was computing a cell."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from estbench.experiment import Cell
from estbench.guarded import GuardedPath
from estbench.store.folder import ResultsFolder
from estbench.store.lock import exclusive

WAIT_SECONDS = 0.2
MOST_READ = 100_000


@contextlib.contextmanager
def attempt(folder: ResultsFolder, cell: Cell, interrupted: Callable[[], bool]) -> Iterator[int]:
    """Lock a cell, mark an attempt at it, and yield the number of earlier attempts that died without progress.

    The marker is a line in the cell's lock file. It is removed at the end of the block, even after an exception: it
    stays only if the process dies. A line names the checkpoint that its attempt started from. So an attempt that left a
    newer checkpoint is not counted: the process was preempted, and the cell makes progress. No clock is used.

    If another process has the cell (a worker that lives longer than its run), this waits until it is done; raises
    ``BlockingIOError`` if ``interrupted()`` is true meanwhile.
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                file = stack.enter_context(exclusive(_marker_file(folder, cell)))
                break
            except BlockingIOError:
                if interrupted():
                    raise
                time.sleep(WAIT_SECONDS)
        origin = _describe_start(folder, cell)
        file.seek(0)
        earlier = file.read(MOST_READ).splitlines().count(origin)
        file.write(f"{origin}\n")
        file.flush()
        os.fsync(file.fileno())
        yield earlier


def _describe_start(folder: ResultsFolder, cell: Cell) -> str:
    """Name the checkpoint that an attempt starts from; two attempts have the same if the first made no progress."""
    if not folder.has_workspace(cell.folder):
        return "no checkpoint"
    try:
        state = (folder.workspace(cell) / "checkpoint.pt").stat()
    except FileNotFoundError:
        return "no checkpoint"
    return f"checkpoint {state.st_mtime_ns} {state.st_size}"


def forget_attempts(folder: ResultsFolder, cell: Cell) -> None:
    """Remove the markers of a cell's attempts, except if a process is computing it."""
    with contextlib.suppress(BlockingIOError), exclusive(_marker_file(folder, cell)):
        pass


def _marker_file(folder: ResultsFolder, cell: Cell) -> GuardedPath:
    return folder.cells / f".{cell.folder}.attempts"
