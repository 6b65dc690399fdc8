"""The loop that brings cells to their ends on workers, whatever started those."""

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
from estbench.execution.conditions import Conditions, Listener
from estbench.execution.engines import Engine
from estbench.execution.slurm import Silence
from estbench.execution.task import TRIES
from estbench.execution.worker import stop, work
from estbench.experiment import Cell
from estbench.store import Status
from estbench.training import Outcome

# How often to look whether the run was interrupted or the scheduler has gone.
POLL_SECONDS = 0.2
# A worker that dies before it has even begun a cell leaves no marker; this many such deaths end the run.
DEATHS = 5 * TRIES
NO_WORKERS = "no worker is left; finished cells are whole, see the logs of the others, and run again to go on"
SCHEDULER_GONE = "the scheduler has gone; finished cells are whole, run again to go on"


def on_workers(
    cells: Iterable[Cell],
    conditions: Conditions,
    engine: Engine,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Iterator[tuple[Cell, Outcome]]:
    """At most ``engine.slots()`` cells in flight; yields each as it ends.

    A cell whose worker died or was told to end is sent again, until the store's count of attempts ends it: what dask
    counts hits neighbours, too. Raises ``ConnectionError`` where the scheduler or the last worker has gone, and what
    a worker raised that is no fault of its cell (a full disk).
    """
    client = engine.client
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.subscribe_topic(conditions.run, lambda event: events.put(event[1]))
    waiting = deque(cells)
    in_flight: dict[Future, Cell] = {}
    begun: set[str] = set()
    sent: Counter[str] = Counter()
    deaths: Counter[str] = Counter()  # before the cell had even begun
    asked, seen = 0.0, time.monotonic()
    silence = None if engine.logs is None else Silence(engine.logs, time.monotonic())
    try:
        while in_flight or (waiting and not interrupted()):
            while waiting and len(in_flight) < engine.slots() and not interrupted():
                cell = waiting.popleft()
                if not sent[cell.key]:
                    prepare(cell)
                sent[cell.key] += 1
                future = _submit(client, cell, conditions, sent[cell.key])
                in_flight[future] = cell
                future.add_done_callback(events.put)
            if interrupted() and time.monotonic() - asked > 1:  # again and again, for a worker may restart meanwhile
                asked = time.monotonic()
                client.run(stop, conditions.run, wait=False, on_error="ignore")
                for future in [future for future, cell in in_flight.items() if cell.key not in begun]:
                    del in_flight[future]
                    future.cancel()
            try:
                event = events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                _check_scheduler(client)
                now, workers = time.monotonic(), len(client.scheduler_info()["workers"])
                if silence and (said := silence.words(workers, now)):
                    listener.noted(said)
                seen = now if workers else seen
                if not workers and engine.refused:
                    raise ConnectionError(
                        f"SLURM takes no job: {engine.refused[-1]}; mend the SLURM file, and run again"
                    ) from None
                if not workers and interrupted():
                    return  # nobody is there to stop
                if now - seen > engine.patience:
                    raise ConnectionError(NO_WORKERS) from None
                continue
            if isinstance(event, dict):
                _tell_progress(event, in_flight.values(), begun, listener)
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
                    f"workers die before they begin the cell '{cell.folder}'; see their logs, and run again to go on"
                )
            waiting.appendleft(cell)
    except CommClosedError:
        raise ConnectionError(SCHEDULER_GONE) from None
    finally:
        with contextlib.suppress(Exception):  # the scheduler may have gone, and the error on its way says more
            client.unsubscribe_topic(conditions.run)
            client.cancel(list(in_flight), force=True)


def _submit(client: Client, cell: Cell, conditions: Conditions, tried: int) -> Future:
    # A key of its own for each try: dask would remember how an earlier one ended.
    key = f"{cell.folder}-{conditions.run[:8]}-{tried}"
    return client.submit(work, cell.as_dict(), conditions, key=key, pure=False)


def _tell_progress(event: dict[str, Any], cells: Iterable[Cell], begun: set[str], listener: Listener) -> None:
    cell = next((cell for cell in cells if cell.key == event["key"]), None)
    if cell is None:
        return
    if event["step"] == 0:
        begun.add(cell.key)
        listener.cell_started(cell)
    else:
        listener.stepped(cell, event["step"])


def _outcome(future: Future, client: Client) -> Outcome | None:
    """How a cell ended, or nothing where its worker did not live to tell: the record may be there all the same."""
    # No exception does not mean success: a future whose scheduler has gone is cancelled, and has none.
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
    raise EstbenchError(f"a worker cannot run cells: {type(error).__name__}: {error}") from error


def _check_scheduler(client: Client) -> None:
    if client.status != "running":
        raise ConnectionError(SCHEDULER_GONE)
