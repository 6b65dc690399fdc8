"""The loop that computes cells on dask workers, whatever started the workers."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.comm import CommClosedError

from estbench.errors import EstbenchError
from estbench.execution.config import Listener, RunConfig
from estbench.execution.engines import Engine
from estbench.execution.slurm import MissingWorkerNotice
from estbench.execution.task import TRIES
from estbench.execution.worker import stop, work
from estbench.experiment import Cell
from estbench.store import Status
from estbench.training import Outcome

# How often to check whether the run was interrupted or the scheduler was lost.
POLL_SECONDS = 0.2
# A worker that dies before it has even begun a cell leaves no marker; this many such deaths end the run.
DEATHS = 5 * TRIES
NO_WORKERS = "no worker is left; finished runs are saved, see the logs of the others, and run again to resume"
SCHEDULER_LOST = "lost the dask scheduler; finished runs are saved, run again to resume"


def compute_on_workers(
    cells: Iterable[Cell],
    config: RunConfig,
    engine: Engine,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Iterator[tuple[Cell, Outcome]]:
    """Compute the cells, at most ``engine.slots()`` at a time; yield each when it ends.

    A cell whose worker died is sent again, until the store's count of attempts ends it; dask's own count would also
    hit the cells around it. Raises ``ConnectionError`` if the scheduler or the last worker is lost, and raises what a
    worker raised that is no fault of its cell (a full disk).
    """
    client = engine.client
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.subscribe_topic(config.run, lambda event: events.put(event[1]))
    waiting = deque(cells)
    in_flight: dict[Future, Cell] = {}
    begun: set[str] = set()
    sent: Counter[str] = Counter()
    deaths: Counter[str] = Counter()  # before the cell had even begun
    asked, seen = 0.0, time.monotonic()
    notice = None if engine.logs is None else MissingWorkerNotice(engine.logs, time.monotonic())
    try:
        while in_flight or (waiting and not interrupted()):
            while waiting and len(in_flight) < engine.slots() and not interrupted():
                cell = waiting.popleft()
                if not sent[cell.key]:
                    prepare(cell)
                sent[cell.key] += 1
                future = _submit(client, cell, config, sent[cell.key])
                in_flight[future] = cell
                future.add_done_callback(events.put)
            if interrupted() and time.monotonic() - asked > 1:  # repeatedly, because a worker may restart meanwhile
                asked = time.monotonic()
                client.run(stop, config.run, wait=False, on_error="ignore")
                for future in [future for future, cell in in_flight.items() if cell.key not in begun]:
                    del in_flight[future]
                    future.cancel()
            try:
                event = events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                _check_scheduler(client)
                now, workers = time.monotonic(), len(client.scheduler_info()["workers"])
                if notice and (message := notice.message(workers, now)):
                    listener.noted(message)
                seen = now if workers else seen
                if not workers and engine.refused:
                    raise ConnectionError(
                        f"SLURM accepts no job: {engine.refused[-1]}; correct the SLURM file, and run again"
                    ) from None
                if not workers and interrupted():
                    return  # there is nothing to stop
                if now - seen > engine.patience:
                    raise ConnectionError(NO_WORKERS) from None
                continue
            if isinstance(event, dict):
                _report_progress(event, in_flight.values(), begun, listener)
                continue
            if event not in in_flight:
                continue  # cancelled above
            cell = in_flight.pop(event)
            outcome = _outcome(event, client)
            if outcome is not None and (outcome.status is not Status.INTERRUPTED or interrupted()):
                yield cell, outcome
                continue
            deaths[cell.key] += cell.key not in begun
            begun.discard(cell.key)
            if deaths[cell.key] > DEATHS:
                raise ConnectionError(
                    f"workers die before they begin the run '{cell.folder}'; see their logs, and run again to resume"
                )
            waiting.appendleft(cell)
    except CommClosedError:
        raise ConnectionError(SCHEDULER_LOST) from None
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be lost, and the error being raised says more
            client.unsubscribe_topic(config.run)
            client.cancel(list(in_flight), force=True)


def _submit(client: Client, cell: Cell, config: RunConfig, tried: int) -> Future:
    # A key of its own for each try: dask would remember how an earlier one ended.
    key = f"{cell.folder}-{config.run[:8]}-{tried}"
    return client.submit(work, cell.as_dict(), config, key=key, pure=False)


def _report_progress(event: dict[str, Any], cells: Iterable[Cell], begun: set[str], listener: Listener) -> None:
    cell = next((cell for cell in cells if cell.key == event["key"]), None)
    if cell is None:
        return
    if "phase" in event:
        listener.phase(cell, event["phase"])
    elif event["step"] == 0:
        begun.add(cell.key)
        listener.cell_started(cell)
    else:
        listener.stepped(cell, event["step"])


def _outcome(future: Future, client: Client) -> Outcome | None:
    """Return how a cell ended; None if its worker died before it could answer (the record may exist nevertheless)."""
    # No exception does not mean success: the future of a lost scheduler is cancelled, and has none.
    if future.status == "finished":
        with contextlib.suppress(Exception):  # its worker died with the answer
            outcome: Outcome = future.result(timeout=30)
            return outcome
        _check_scheduler(client)
        return None
    _check_scheduler(client)
    if future.status != "error" or isinstance(error := future.exception(), KilledWorker):
        return None
    if isinstance(error, OSError | EstbenchError):
        raise error
    raise EstbenchError(f"a worker cannot compute runs: {type(error).__name__}: {error}") from error


def _check_scheduler(client: Client) -> None:
    if client.status != "running":
        raise ConnectionError(SCHEDULER_LOST)
