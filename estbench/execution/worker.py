"""What runs inside a dask worker. Cells come as plain data; code comes only from what is installed and --plugin."""

from __future__ import annotations

import platform
import signal
import time
from typing import Any

import torch
from distributed import get_worker

from estbench import __version__, estimators, problems
from estbench.errors import EstbenchError
from estbench.execution.conditions import Conditions
from estbench.execution.task import execute
from estbench.experiment import Cell
from estbench.experiment.plan import cell_from_record
from estbench.plugins import is_current, load_plugin
from estbench.processes import usable_cores
from estbench.training import Outcome
from estbench.variant import Variant

# Progress goes through the scheduler: once a second from each cell is live enough.
SECONDS_BETWEEN_REPORTS = 1.0
# The runs whose cells were asked to stop; kept by this process.
STOPPED: set[str] = set()


def work(record: dict[str, Any], conditions: Conditions) -> Outcome:
    """Compute the cell of a record; report its progress on the topic of the run."""
    for plugin in conditions.plugins:
        if not is_current(plugin):  # not yet here, or edited since: a cluster outlives many runs
            load_plugin(plugin)
    cell = cell_from_record(record)
    if cell.key != record["key"]:
        raise EstbenchError(
            f"estbench {__version__} on {platform.node()} gives the cell '{cell.folder}' another key; "
            "install the same version there"
        )
    _check_source(cell)
    worker = get_worker()
    reported = time.monotonic()

    def report(step: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            worker.log_event(conditions.run, {"key": cell.key, "step": step})

    return execute(
        cell,
        conditions,
        interrupted=lambda: conditions.run in STOPPED,
        on_step=report,
        begun=lambda: worker.log_event(conditions.run, {"key": cell.key, "step": 0}),
    )


def dask_setup(_worker: object) -> None:
    """Leave Ctrl-C to the run, which asks its workers to stop; a terminal sends it to all of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def stop(run: str) -> None:
    """Ask this process to stop the cells of a run between two steps; on its event loop, so nobody waits."""
    STOPPED.add(run)


def describe() -> dict[str, Any]:
    """What the run must know of a worker before it sends cells there."""
    return {
        "host": platform.node(),
        "cores": usable_cores(),
        "cuda": torch.cuda.is_available(),
        "estbench": __version__,
    }


def _check_source(cell: Cell) -> None:
    """Refuse a cell whose code is another one here than where it was planned."""
    for registry, planned in ((estimators.REGISTRY, cell.estimator), (problems.REGISTRY, cell.problem)):
        if registry.resolve(Variant(planned.name, planned.options)).source != planned.source:
            raise EstbenchError(
                f"the source of '{planned.label}' on {platform.node()} is not the one that was planned; "
                "run again, with the same files there"
            )
