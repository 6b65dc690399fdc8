"""Engines, which start or find dask workers: on this machine, on a running cluster, or as SLURM jobs."""

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
# A free port, on loopback only: without an address dask opens its web pages to the network.
ON_LOOPBACK = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0"}
SECONDS_TO_FIND_A_CLUSTER = 15.0
# A worker of this machine that dies is replaced sooner, however busy the machine is.
LOCAL_PATIENCE_SECONDS = 30.0
# The name that dask gives to the processes of its workers.
WORKER_PROCESS = "Dask Worker process (from Nanny)"
# Cells may start processes (a DataLoader). Dask's profiler would share the GIL with cells, and its clocks and monitors
# take time from them at their default rate. Only our own count of attempts ends a cell, and only our own time limit, so
# no worker is given up because its GIL is held.
DASK_CONFIG = {
    # Dask makes glibc return freed memory at once, which slows training: torch allocates it again in each step.
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
    """A dask client, how many cells it computes at a time, and with which device and threads."""

    name: str
    client: Client
    slots: Callable[[], int]
    device: str
    threads: int
    logs: GuardedPath | None = None  # folder of the jobs' logs, which say why a job could not start
    patience: float = math.inf  # seconds without any worker that end the run
    refused: list[str] = field(default_factory=list)  # why SLURM accepted no job


class FastClosingNanny(Nanny):  # type: ignore[misc]
    """A nanny that closes without waiting for its worker: the results are already on disk."""

    async def close(self, timeout: float = 1.0, reason: str = "nanny-close") -> str:  # noqa: ASYNC109  (its base has it)
        """End the worker, by force if it takes longer than ``timeout``."""
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout, reason=reason)
        return "OK"


@contextlib.contextmanager
def local(jobs: int, device: str, threads: int | None) -> Iterator[Engine]:
    """Start worker processes on this machine, which end with this one; one GPU each if there are several."""
    options = {
        **ON_LOOPBACK,
        "nthreads": 1,
        "memory_limit": psutil.virtual_memory().total // jobs,
        "silence_logs": logging.CRITICAL,
        "preload": ["estbench.execution.worker"],
    }
    workers = {
        index: {"cls": FastClosingNanny, "options": {**options, "env": _one_gpu(index, device)}}
        for index in range(jobs)
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_CONFIG))
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
    """Connect to a running dask cluster, by its scheduler's address or its scheduler file."""
    where = {"address": address} if "://" in address else {"scheduler_file": str(Path(address).resolve())}
    if "scheduler_file" in where and not Path(address).is_file():
        raise EstbenchError(f"no scheduler file '{address}'; --cluster takes one, or an address like tcp://host:8786")
    try:
        client = Client(**where, timeout=SECONDS_TO_FIND_A_CLUSTER, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise EstbenchError(
            f"no dask scheduler answers at '{address}': {error}; start one, or correct --cluster"
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
    """Submit SLURM jobs of one worker each: as many as there are cells, up to ``settings.jobs``; replace lost ones."""
    threads = threads or settings.threads
    refused: list[str] = []
    with _handlers_kept():
        from dask_jobqueue import SLURMCluster  # noqa: PLC0415
        from dask_jobqueue.slurm import SLURMJob  # noqa: PLC0415

    class Job(SLURMJob):  # type: ignore[misc]
        """Notes why ``sbatch`` accepts no job; dask would only log it, and wait."""

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
        stack.enter_context(dask.config.set({**DASK_CONFIG, "distributed.scheduler.worker-ttl": "5 minutes"}))
        with _starts("the scheduler for SLURM jobs; correct the SLURM file"):
            jobs = stack.enter_context(Jobs(**settings.options(threads, logs), silence_logs="critical"))
            client = stack.enter_context(Client(jobs, set_as_default=False))
        jobs.adapt(minimum_jobs=0, maximum_jobs=settings.jobs)
        yield Engine("slurm", client, lambda: settings.jobs, device, threads, logs, refused=refused)


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Within, no signal handler can be set: importing dask_jobqueue would take Ctrl-C from the host."""
    original = signal.signal
    signal.signal = lambda number, _handler: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = original


@contextlib.contextmanager
def _starts(what: str) -> Iterator[None]:
    """Turn whatever keeps dask from starting something into one line; ``what`` is "the thing; the remedy"."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (it wraps the cause, whose kind is anything)
        started, remedy = what.split("; ")
        cause = described(error.__cause__ or error)
        raise ConnectionError(f"cannot start {started}: {cause}; {remedy}, and run again") from None


def _one_gpu(index: int, device: str) -> dict[str, str]:
    """Return the environment in which a worker sees only its own GPU, if there are several and none was chosen."""
    count = torch.cuda.device_count()
    if count < 2 or device != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[index % count].strip()}


def _workers(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]  # by default it lists five
    return found


def _checked(client: Client, address: str, device: str) -> tuple[str, int]:
    """Return the device that all workers have, and the threads of a cell; refuse workers that cannot run cells."""
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_FIND_A_CLUSTER)
    except TimeoutError:
        raise EstbenchError(f"the cluster at '{address}' has no workers; start some with --nthreads 1") from None
    if any(worker["nthreads"] != 1 for worker in _workers(client).values()):
        raise EstbenchError(
            f"workers at '{address}' have several threads, and runs would share torch's random state; "
            "start them with --nthreads 1"
        )
    try:
        found = list(client.run(describe).values())
    except ImportError as error:
        raise EstbenchError(f"workers at '{address}' cannot import estbench ({error}); install it there") from None
    if others := {worker["estbench"] for worker in found} - {__version__}:
        raise EstbenchError(f"workers at '{address}' have estbench {others.pop()}, and this is {__version__}")
    wanted = "cuda" if device == "auto" else device.partition(":")[0]
    lacking = 0 if device == "cpu" else sum(wanted not in worker["accelerators"] for worker in found)
    if device == "auto" and 0 < lacking < len(found):
        raise EstbenchError("some workers have no CUDA device; choose with --device cpu or --device cuda")
    if device != "auto" and lacking:
        raise EstbenchError(f"--device {device}: {lacking} of {len(found)} workers have no {wanted.upper()} device")
    hosts = [worker["host"] for worker in found]
    threads = min(max(1, worker["cores"] // hosts.count(worker["host"])) for worker in found)
    return ("cpu" if lacking else wanted) if device == "auto" else device, threads
