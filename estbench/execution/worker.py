"""The code that runs inside a dask worker.

Cells arrive as plain data. Code comes only from installed packages and from --plugin.
"""

from __future__ import annotations

import math
import platform
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from distributed import get_worker

from estbench._version import __version__
from estbench.datasets.own_files import relative_to
from estbench.devices import accelerators
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.execution.config import RunConfig
from estbench.execution.local import compute
from estbench.execution.planning import load_isolated
from estbench.experiment import Cell
from estbench.experiment.plan import cell_from_record
from estbench.plugins import is_current
from estbench.problems import PROBLEMS
from estbench.processes import usable_cores
from estbench.training import Outcome
from estbench.training.isolation import accept_threads
from estbench.variant import Variant

# Progress goes through the scheduler: once a second from each cell is live enough.
SECONDS_BETWEEN_REPORTS = 1.0
# The runs whose cells were asked to stop; kept by this process.
STOPPED: set[str] = set()
# Whether this process was asked to end, and the cells that it computes now.
TERMINATED = threading.Event()
AT_WORK: set[str] = set()
# Dask's nanny ends a worker that takes 95 % of its memory.
EATS_TOO_MUCH = 0.9


def work(record: dict[str, Any], config: RunConfig) -> Outcome:
    """Compute the cell of a record; report its progress on the topic of the run."""
    relative_to(config.current_folder)
    broken = _load_plugins(config.plugins)
    cell = cell_from_record(record)
    if cell.key != record["key"]:
        raise EstbenchError(
            f"estbench {__version__} on {platform.node()} computes another key for the run '{cell.folder}'; "
            "install the same version there"
        )
    known = cell.estimator.name in ESTIMATORS.names() and cell.problem.name in PROBLEMS.names()
    if known:
        _check_source(cell)

    def ready() -> None:
        if broken and not known:
            raise broken

    worker = get_worker()
    reported = time.monotonic()

    def report(step: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            worker.log_event(config.run, {"key": cell.key, "step": step})

    AT_WORK.add(cell.key)
    try:
        return compute(
            cell,
            config,
            interrupted=lambda: TERMINATED.is_set() or config.run in STOPPED,
            on_step=report,
            on_phase=lambda name: worker.log_event(config.run, {"key": cell.key, "phase": name}),
            begun=lambda: worker.log_event(config.run, {"key": cell.key, "step": 0}),
            ready=ready,
        )
    finally:
        AT_WORK.discard(cell.key)
        if TERMINATED.is_set():
            worker.loop.add_callback(worker.close, nanny=False)


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the run asks its workers to stop.

    SIGTERM stops a cell between two steps, with a checkpoint, and then ends the worker. Dask's nanny sends the same
    signal to a worker that uses too much memory: that one ends at once, and counts as dead.
    """
    accept_threads()

    def terminate(number: int, _frame: FrameType | None) -> None:
        limit = worker.memory_manager.memory_limit or math.inf
        if AT_WORK and not TERMINATED.is_set() and psutil.Process().memory_info().rss < EATS_TOO_MUCH * limit:
            TERMINATED.set()
            return
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)


async def stop(run: str) -> None:
    """Ask this process to stop the cells of a run between two steps; on the event loop, so that no one waits."""
    STOPPED.add(run)


def describe() -> dict[str, Any]:
    """Return what the run must know about a worker before it sends cells there."""
    return {
        "host": platform.node(),
        "cores": usable_cores(),
        "accelerators": accelerators(),
        "estbench": __version__,
    }


def _load_plugins(plugins: Iterable[Path]) -> EstbenchError | None:
    """Load the plugins; return the error of one that cannot be loaded, which fails only the cells that need it."""
    broken = None
    for plugin in plugins:
        if not plugin.exists():
            raise EstbenchError(
                f"the plugin '{plugin}' is not visible on {platform.node()}; put it on a file system that all machines"
                " share"
            )
        try:
            if not is_current(plugin):  # not yet here, or edited since: a cluster outlives many runs
                load_isolated(plugin)
        except EstbenchError as error:
            broken = error
    return broken


def _check_source(cell: Cell) -> None:
    """Refuse a cell whose code here differs from the code that was planned."""
    for registry, planned in ((ESTIMATORS, cell.estimator), (PROBLEMS, cell.problem)):
        if registry.resolve(Variant(planned.name, planned.options)).source != planned.source:
            raise EstbenchError(
                f"the source of '{planned.label}' on {platform.node()} differs from the planned one; "
                "run again, with the same files there"
            )
