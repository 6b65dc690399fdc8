"""One cell, computed once however often it is asked for: what every engine runs."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO

import torch

from estbench.errors import EstbenchError
from estbench.execution.conditions import Conditions
from estbench.experiment import Cell
from estbench.limits import COPY_BYTES
from estbench.measure.environment import choose_device
from estbench.store import ResultsFolder, Status
from estbench.store.attempts import attempt
from estbench.training import Outcome, give_up, run_cell
from estbench.training.cell import OVERSTAYED
from estbench.training.stopping import overstayed

# A cell whose process died so often without a new checkpoint in between has failed.
TRIES = 3
LOG = "log.txt"


def execute(
    cell: Cell,
    conditions: Conditions,
    *,
    interrupted: Callable[[], bool],
    on_step: Callable[[int], None],
    begun: Callable[[], None] = lambda: None,
    ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute a cell and leave its record, unless it is there already: an engine may ask again after any fault.

    Only one process at a time is on a cell. What an earlier process left by dying is turned into the cell's record
    here: its deadline at once, any other death after ``TRIES`` of them.
    """
    folder = ResultsFolder(conditions.folder)
    if not folder.plan_file.exists():
        raise EstbenchError(
            f"'{folder.path}' is not visible on {platform.node()}; workers need a file system that they all share"
        )
    device = choose_device(conditions.device)
    try:
        with contextlib.ExitStack() as stack:
            earlier = stack.enter_context(attempt(folder, cell, interrupted))
            if (stored := _stored(folder, cell)) is not None:
                return stored
            log = stack.enter_context(_log(folder, cell, everything=conditions.engine != "in-process"))
            torch.set_num_threads(conditions.threads)
            _write(
                log,
                f"begins on {platform.node()}, process {os.getpid()}, {conditions.engine}, {device}, "
                f"{conditions.threads} threads; {earlier} earlier tries died",
            )
            begun()  # once the log names the process
            outcome = _given_up(cell, folder, device, conditions, earlier) or run_cell(
                cell,
                folder,
                device,
                interrupted=interrupted,
                on_step=on_step,
                keep_checkpoint=conditions.keep_checkpoints,
                timeout=conditions.timeout,
                exit_if_hung=conditions.exit_if_hung or conditions.engine != "in-process",
                execution=conditions.provenance,
                remark=lambda line: _write(log, line),
                ready=ready,
            )
            _write(log, f"{outcome.status}{f': {outcome.reason}' if outcome.reason else ''}")
            return outcome
    except BlockingIOError:
        return Outcome(Status.INTERRUPTED, "another process is on it")


def _given_up(
    cell: Cell, folder: ResultsFolder, device: torch.device, conditions: Conditions, earlier: int
) -> Outcome | None:
    """The outcome of a cell that must not be tried again, with its record; nothing where it may be."""
    stack = overstayed(folder.workspace(cell) / OVERSTAYED)
    if stack is not None:
        outcome = Outcome(Status.TIMEOUT, "hung past its deadline, and was ended with its process")
    elif earlier >= TRIES:
        outcome = Outcome(
            Status.FAILED, f"its process died in each of {earlier} tries: killed, out of memory, or a crash (see {LOG})"
        )
    else:
        return None
    give_up(cell, folder, device, outcome, stack or "", conditions.provenance)
    return outcome


def _stored(folder: ResultsFolder, cell: Cell) -> Outcome | None:
    """The outcome of a cell that needs no computing, as when an engine has lost the answer and asks again."""
    record = folder.read_record(cell.folder)
    if record is None or not Status(record["status"]).final:
        return None
    return Outcome(Status(record["status"]), record.get("stop_reason", ""))


@contextlib.contextmanager
def _log(folder: ResultsFolder, cell: Cell, *, everything: bool) -> Iterator[IO[str]]:
    """The cell's own log: it begins in the workspace, goes with it into place, and holds all attempts.

    With ``everything``, which is for a process that runs nothing else, it takes what the cell prints, too, and the
    stack of a crash in native code.
    """
    path = folder.workspace(cell) / LOG
    earlier = folder.place(cell.folder) / LOG
    if earlier.exists() and not path.exists():
        earlier.copy(path, COPY_BYTES)
    with path.appended() as log:
        if not everything:
            yield log
            return
        enabled = faulthandler.is_enabled()
        faulthandler.enable(log)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield log
        finally:
            faulthandler.enable() if enabled else faulthandler.disable()


def _write(log: IO[str], line: str) -> None:
    log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")
    log.flush()
