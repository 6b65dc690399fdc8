"""What brings up workers: processes of this machine, a cluster that runs already, SLURM. Only this differs."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import psutil
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster, Status

from estbench._version import __version__
from estbench.errors import EstbenchError
from estbench.execution.slurm import Slurm
from estbench.execution.worker import describe
from estbench.failures import described
from estbench.guarded import GuardedPath
from estbench.processes import started_without_script, usable_cores

LOOPBACK = "127.0.0.1"
# A port of its own choice, and bound: without an address dask opens its web pages to the network.
ON_LOOPBACK = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0"}
SECONDS_TO_FIND_A_CLUSTER = 15.0
# A worker of this machine that dies is replaced sooner, however busy the machine is.
LOCAL_PATIENCE_SECONDS = 30.0
# The name that dask gives to the processes of its workers.
WORKER_PROCESS = "Dask Worker process (from Nanny)"
# Cells may start processes (a DataLoader's); dask's profiler would share the GIL with them; only our own count of
# attempts ends a cell; time limits are ours, too, so that no worker is given up because its GIL is held. Dask's
# clocks and monitors, at their default pace, take time from the cells.
SETTINGS = {
    # dask has freed memory returned at once, which slows training down: torch asks for it again and again.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.daemon": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.scheduler.allowed-failures": 100,
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@dataclass(frozen=True)
class Engine:
    """A client, how many cells it takes at a time, and what holds for each of them."""

    name: str
    client: Client
    slots: Callable[[], int]
    device: str
    threads: int
    logs: GuardedPath | None = None  # where jobs leave why they could not start
    patience: float = math.inf  # seconds without any worker that end the run
    refused: list[str] = field(default_factory=list)  # why jobs were not even taken


class Keeper(Nanny):  # type: ignore[misc]
    """Restarts a worker that died, and does not wait for one to leave: all that counts is on disk by then."""

    async def close(self, timeout: float = 1.0, reason: str = "nanny-close") -> str:  # noqa: ASYNC109  (its base has it)
        """End the worker, by force where it takes its time; on a busy machine the end itself may take longer."""
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout, reason=reason)
        return "OK"


@contextlib.contextmanager
def local(jobs: int, device: str, threads: int | None) -> Iterator[Engine]:
    """Worker processes on this machine, which end with this one; one GPU each where there are several."""
    options = {
        **ON_LOOPBACK,
        "nthreads": 1,
        "memory_limit": psutil.virtual_memory().total // jobs,
        "silence_logs": logging.CRITICAL,
        "preload": ["estbench.execution.worker"],
    }
    workers = {index: {"cls": Keeper, "options": {**options, "env": _one_gpu(index)}} for index in range(jobs)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        stack.enter_context(started_without_script(WORKER_PROCESS))
        with _starts("worker processes; free some memory, or run without --jobs"):
            processes = SpecCluster(
                workers=workers,
                scheduler={"cls": Scheduler, "options": {**ON_LOOPBACK, "dashboard": False}},
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(Client(stack.enter_context(processes), set_as_default=False))
        shared = max(1, usable_cores() // jobs)
        yield Engine("local", client, lambda: jobs, device, threads or shared, patience=LOCAL_PATIENCE_SECONDS)


@contextlib.contextmanager
def cluster(address: str, jobs: int | None, device: str, threads: int | None) -> Iterator[Engine]:
    """A dask cluster that runs already: its scheduler's address, or the scheduler file that it wrote."""
    where = {"address": address} if "://" in address else {"scheduler_file": str(Path(address).resolve())}
    if "scheduler_file" in where and not Path(address).is_file():
        raise EstbenchError(f"no scheduler file '{address}'; --cluster takes one, or an address like tcp://host:8786")
    try:
        client = Client(**where, timeout=SECONDS_TO_FIND_A_CLUSTER, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise EstbenchError(
            f"no dask scheduler answers at '{address}': {error}; start one, or mend --cluster"
        ) from None
    with client:
        agreed, shared = _checked(client, address, device)
        yield Engine(
            "cluster",
            client,
            lambda: jobs or max(1, len(_workers(client))),
            agreed,
            threads or shared,
        )


@contextlib.contextmanager
def slurm(settings: Slurm, logs: GuardedPath, device: str, threads: int | None) -> Iterator[Engine]:
    """Jobs of SLURM, each one worker: as many as there are cells for, up to ``settings.jobs``; lost ones replaced."""
    threads = threads or settings.threads
    refused: list[str] = []
    with _handlers_kept():
        from dask_jobqueue import SLURMCluster  # noqa: PLC0415
        from dask_jobqueue.slurm import SLURMJob  # noqa: PLC0415

    class Job(SLURMJob):  # type: ignore[misc]
        """Tells why ``sbatch`` takes no job; dask would only log it, and wait."""

        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                refused.append(described(error))
                self.status = Status.failed  # as dask expects of it when it closes
                raise

    class Jobs(SLURMCluster):  # type: ignore[misc]
        job_cls = Job

    logs.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({**SETTINGS, "distributed.scheduler.worker-ttl": "5 minutes"}))
        with _starts("the scheduler for jobs of SLURM; mend the SLURM file"):
            jobs = stack.enter_context(Jobs(**settings.options(threads, logs), silence_logs="critical"))
            client = stack.enter_context(Client(jobs, set_as_default=False))
        jobs.adapt(minimum_jobs=0, maximum_jobs=settings.jobs)
        yield Engine("slurm", client, lambda: settings.jobs, device, threads, logs, refused=refused)


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Within, nothing takes a signal: dask_jobqueue would take Ctrl-C from the host when it is imported."""
    original = signal.signal
    signal.signal = lambda number, _handler: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = original


@contextlib.contextmanager
def _starts(what: str) -> Iterator[None]:
    """One line of whatever keeps dask from starting something, with what to do after a semicolon."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (it wraps the cause, whose kind is anything)
        started, remedy = what.split("; ")
        cause = described(error.__cause__ or error)
        raise ConnectionError(f"cannot start {started}: {cause}; {remedy}, and run again") from None


def _one_gpu(index: int) -> dict[str, str]:
    """The environment that shows a worker its GPU alone, where there are several."""
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[index % count].strip()}


def _workers(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]  # by default it lists five
    return found


def _checked(client: Client, address: str, device: str) -> tuple[str, int]:
    """The device that all workers have, and the threads of a cell; refuse workers that cannot do the work."""
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_FIND_A_CLUSTER)
    except TimeoutError:
        raise EstbenchError(f"the cluster at '{address}' has no workers; start some with --nthreads 1") from None
    if any(worker["nthreads"] != 1 for worker in _workers(client).values()):
        raise EstbenchError(
            f"workers at '{address}' have several threads, and cells would share torch's random state; "
            "start them with --nthreads 1"
        )
    try:
        found = list(client.run(describe).values())
    except ImportError as error:
        raise EstbenchError(f"workers at '{address}' cannot import estbench ({error}); install it there") from None
    if others := {worker["estbench"] for worker in found} - {__version__}:
        raise EstbenchError(f"workers at '{address}' have estbench {others.pop()}, and this is {__version__}")
    cuda = [worker["cuda"] for worker in found]
    if device == "cuda" and not all(cuda):
        raise EstbenchError(f"--device cuda: {cuda.count(False)} of {len(cuda)} workers have no CUDA device")
    if device == "auto" and any(cuda) != all(cuda):
        raise EstbenchError("some workers have a CUDA device and some have none; say --device cpu or cuda")
    hosts = [worker["host"] for worker in found]
    threads = min(max(1, worker["cores"] // hosts.count(worker["host"])) for worker in found)
    return ("cuda" if all(cuda) and device != "cpu" else "cpu"), threads
