"""One cell, computed once however often it is requested; every engine runs this."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO

import torch

from estbench.datasets.own_files import check_unchanged, is_own_file
from estbench.devices import choose_device
from estbench.errors import EstbenchError
from estbench.execution.config import RunConfig
from estbench.experiment import Cell
from estbench.limits import COPY_BYTES
from estbench.store import ResultsFolder, Status
from estbench.store.attempts import attempt
from estbench.training import Outcome, record_failure, run_cell
from estbench.training.cell import HANG_TRACEBACK
from estbench.training.stopping import read_hang_traceback

# A cell has failed if its process died so often without a new checkpoint in between.
TRIES = 3
LOG = "log.txt"


def execute(
    cell: Cell,
    config: RunConfig,
    *,
    interrupted: Callable[[], bool],
    on_step: Callable[[int], None],
    on_phase: Callable[[str], None] = lambda _name: None,
    begun: Callable[[], None] = lambda: None,
    ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute a cell and write its record, unless there is one: an engine may ask again after any fault.

    Only one process at a time computes a cell. If an earlier process died, the cell's record is written here: at once
    if it had passed its deadline, and after ``TRIES`` deaths for any other reason.
    """
    folder = ResultsFolder(config.folder)
    if not folder.plan_file.exists():
        raise EstbenchError(
            f"'{folder.path}' is not visible on {platform.node()}; workers need a file system that they all share"
        )
    _check_data(cell)
    device = choose_device(config.device)
    try:
        with contextlib.ExitStack() as stack:
            earlier = stack.enter_context(attempt(folder, cell, interrupted))
            if (stored := _stored(folder, cell, config)) is not None:
                return stored
            log = stack.enter_context(_log(folder, cell, everything=config.engine != "in-process"))
            torch.set_num_threads(config.threads)
            _write(
                log,
                f"begins on {platform.node()}, process {os.getpid()}, {config.engine}, {device}, "
                f"{config.threads} threads; {earlier} earlier tries died",
            )
            begun()  # once the log names the process
            outcome = _failed_before(cell, folder, device, config, earlier) or run_cell(
                cell,
                folder,
                device,
                interrupted=interrupted,
                on_step=on_step,
                on_phase=on_phase,
                keep_checkpoint=config.keep_checkpoints,
                timeout=config.timeout,
                exit_if_hung=config.exit_if_hung or config.engine != "in-process",
                execution=config.provenance,
                remark=lambda line: _write(log, line),
                ready=ready,
            )
            _write(log, f"{outcome.status}{f': {outcome.reason}' if outcome.reason else ''}")
            return outcome
    except BlockingIOError:
        return Outcome(Status.INTERRUPTED, "already running in another process")


def _check_data(cell: Cell) -> None:
    """Refuse a cell whose data are a file that was edited after the cell was planned."""
    dataset = cell.problem.options.get("dataset")
    if isinstance(dataset, str) and is_own_file(dataset):
        check_unchanged(dataset, cell.problem.card)


def _failed_before(
    cell: Cell, folder: ResultsFolder, device: torch.device, config: RunConfig, earlier: int
) -> Outcome | None:
    """Write the record of a cell that must not be tried again, and return its outcome; None if it may be tried."""
    stack = read_hang_traceback(folder.workspace(cell) / HANG_TRACEBACK)
    if stack is not None:
        outcome = Outcome(Status.TIMEOUT, "hung past its timeout; its process was ended")
    elif earlier >= TRIES:
        outcome = Outcome(
            Status.FAILED, f"its process died in each of {earlier} tries: killed, out of memory, or a crash (see {LOG})"
        )
    else:
        return None
    record_failure(cell, folder, device, outcome, stack or "", config.provenance)
    return outcome


def _stored(folder: ResultsFolder, cell: Cell, config: RunConfig) -> Outcome | None:
    """Return the outcome of a cell that has a record, as when an engine lost the answer and asks again; else None.

    A cell that failed is tried again, but only by another run.
    """
    record = folder.read_record(cell.folder)
    if record is None:
        return None
    status = Status(record["status"])
    by_this_run = record.get("execution") == config.provenance
    if not status.final and (status is Status.INTERRUPTED or not by_this_run):
        return None
    return Outcome(status, record.get("stop_reason", ""))


@contextlib.contextmanager
def _log(folder: ResultsFolder, cell: Cell, *, everything: bool) -> Iterator[IO[str]]:
    """Open the cell's own log, which holds all attempts; it is written in the workspace and moves with it.

    With ``everything``, for a process that runs nothing else, it also takes what the cell prints, and the stack of a
    crash in native code.
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
