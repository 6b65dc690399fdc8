"""Run an experiment: what is missing of its cells, then throughput."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from estbench.errors import EstbenchError, EstbenchWarning
from estbench.estimators import ESTIMATORS
from estbench.execution.conditions import Conditions, Listener
from estbench.execution.local import in_process
from estbench.execution.planning import (
    as_experiment,
    check_parts,
    load_isolated,
    longest_first,
    plan_of,
    whole_batches,
)
from estbench.execution.slurm import Slurm, read_slurm
from estbench.execution.throughput import time_throughput, untimed
from estbench.experiment import Cell, Experiment, Plan
from estbench.guarded import GuardedPath
from estbench.measure.environment import choose_device
from estbench.problems import PROBLEMS
from estbench.store import Results, ResultsFolder, Status, load
from estbench.store.attempts import forget_attempts
from estbench.store.lock import one_run
from estbench.training import Interrupts, Outcome
from estbench.training.isolation import accept_threads, isolated, threads_left
from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.execution.engines import Engine


# Cells that a warning names.
MOST_NAMED = 5


@isolated()
def run(
    experiment: str | Path | Mapping[str, Any] | Experiment = "quickstart",
    out: str | Path | None = None,
    *,
    device: str = "auto",
    jobs: int | None = None,
    cluster: str | None = None,
    slurm: str | Path | Slurm | None = None,
    threads: int | None = None,
    timeout: float | None = None,
    plugins: Iterable[str | Path] = (),
    force: bool = False,
    keep_checkpoints: bool = False,
    exit_if_hung: bool = False,
    listener: Listener | None = None,
) -> Results:
    """Run what is missing of an experiment, and return all of its results.

    Parameters
    ----------
    experiment
        A TOML file, the name of a ready experiment, plain data, or an ``Experiment``.
    out
        The results folder; ``results/<name>`` if not given.
    device
        ``auto``, ``cpu`` or ``cuda``.
    jobs
        So many worker processes on this machine; with ``cluster``, so many cells at a time. Without any engine the
        cells run in this process, one after the other.
    cluster
        The address of a dask scheduler, or its scheduler file.
    slurm
        A TOML file that says what jobs to submit.
    threads
        Threads of each cell; by default the cores are divided among the cells that run at a time.
    timeout
        Seconds that a cell may take in one run. A cell that hangs (a deadlock, native code) cannot be stopped from
        within its process: a worker then ends, and the cell alone is lost. Without workers a line says so after a
        tenth more, and the call does not return; restart the process or the kernel and run again.
    plugins
        Python files that register estimators, problems or datasets; workers load them, too.
    force
        Compute the cells anew, and forget what is stored of them.
    keep_checkpoints
        Leave each finished cell's last checkpoint in its folder.
    exit_if_hung
        End this process where a cell in it hangs past its ``timeout``, as the command line does.
    listener
        Is told what happens; without one, a warning names the cells that failed.

    Raises
    ------
    EstbenchError
        For a mistake in what was asked; nothing is written then.
    ConnectionError
        Where a scheduler has gone; run again to go on.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; the running cells are stored as ``interrupted`` and go on when run again.
    """
    threads_here = threads or torch.get_num_threads()
    listener = listener or Listener()
    accept_threads()
    lost: dict[str, str] = {}
    with Interrupts(polite=False) as interrupts:
        files = tuple(Path(plugin).absolute() for plugin in plugins)
        for file in files:
            _load(file, listener)
        _check_amounts(jobs, threads, timeout)
        remote = cluster is not None or slurm is not None
        here = torch.device("cpu") if remote else choose_device(device)
        plan = plan_of(as_experiment(experiment))
        training_examples = check_parts(plan, interrupts)
        folder = ResultsFolder(out or Path("results") / plan.experiment.name)
        path = folder.path.resolve()
        engine = _engine(jobs, cluster, slurm, device if remote else here.type, threads, GuardedPath(path, "slurm"))
        if engine is not None:
            _check_origins(plan)
        conditions = Conditions(
            path,
            here.type,
            threads_here,
            timeout=timeout,
            keep_checkpoints=keep_checkpoints,
            exit_if_hung=exit_if_hung,
            plugins=files,
        )

        def prepare(cell: Cell) -> None:
            if force or folder.is_damaged(cell):
                folder.discard(cell)
                forget_attempts(folder, cell)

        folder.create()
        with one_run(folder.path, listener.noted):
            interrupts.polite = True
            if folder.plan_file.exists():
                folder.read_plan()
            todo = [cell for cell in plan if force or not _is_stored(folder, cell)]
            remarks = folder.record_plan(plan)
            listener.planned(plan, len(plan) - len(todo))
            for remark in [*remarks, *whole_batches(plan, training_examples)]:
                listener.noted(remark)
            remarked: set[str] = set()
            with contextlib.closing(_computed(todo, conditions, engine, listener, interrupts, prepare)) as computed:
                for cell, outcome in computed:
                    listener.cell_ended(cell, outcome, folder)
                    for line in set(outcome.remarks) - remarked:  # seeds say the same
                        listener.noted(f"{cell.estimator.label} on {cell.problem.label}, seed {cell.seed}, {line}")
                    remarked |= {*outcome.remarks}
                    if outcome.status in {Status.FAILED, Status.TIMEOUT}:
                        lost[cell.folder] = f"{outcome.status}: {outcome.reason}"
            if interrupts():
                raise KeyboardInterrupt
            if not remote:
                time_throughput(plan, training_examples, folder, here, listener, interrupts, force=force)
            elif untimed(plan, training_examples, folder, force=force):
                listener.noted(
                    "throughput is measured only where nothing else runs: run again on one quiet machine, without a "
                    "cluster; finished cells are not computed again"
                )
            if interrupts():
                raise KeyboardInterrupt
            if lost and type(listener) is Listener:  # which tells nobody
                _warn(lost, len(plan))
            return load(folder.path)


def _warn(lost: Mapping[str, str], planned: int) -> None:
    """Warn of cells that failed, where nobody was told; each is named with its reason."""
    named = "".join(f"\n  {folder}: {visible(reason)}" for folder, reason in [*lost.items()][:MOST_NAMED])
    more = f"\n  and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
    warnings.warn(f"{len(lost)} of {planned} cells have no result:{named}{more}", EstbenchWarning, stacklevel=4)


def _load(plugin: Path, listener: Listener) -> None:
    """Load a plugin, and tell what it did to the process as it was imported."""
    for name in load_isolated(plugin):
        listener.noted(f"the plugin '{plugin.name}' changed {name} as it was imported, which was put back")
    if threads := threads_left():
        listener.noted(
            f"the plugin '{plugin.name}' starts threads as it is imported ({', '.join(threads)}): if they draw random "
            "numbers, results differ from run to run; start them in the estimator"
        )


def _check_origins(plan: Plan) -> None:
    """Refuse what only this process knows: a class in a script or a notebook, for worker processes."""
    for kind, registry, label, name in {
        entry
        for cell in plan
        for entry in (
            ("estimator", ESTIMATORS, cell.estimator.label, cell.estimator.name),
            ("problem", PROBLEMS, cell.problem.label, cell.problem.name),
        )
    }:
        if registry.get(name).__module__ == "__main__":
            raise EstbenchError(
                f"the {kind} '{label}' is defined in __main__, and worker processes do not see it: put it into a "
                "file and give that as a plugin (plugins=['FILE.py'], --plugin FILE.py), or run without workers"
            )


def _engine(
    jobs: int | None,
    cluster: str | None,
    slurm: str | Path | Slurm | None,
    device: str,
    threads: int | None,
    logs: GuardedPath,
) -> contextlib.AbstractContextManager[Engine] | None:
    """What will bring up workers; nothing where the cells run in this process."""
    if slurm is not None and (jobs is not None or cluster is not None):
        raise EstbenchError("--slurm goes with neither --jobs nor --cluster; the SLURM file says how many jobs")
    if jobs is None and cluster is None and slurm is None:
        return None
    settings = read_slurm(slurm) if isinstance(slurm, str | Path) else slurm
    if settings is not None:
        settings.check_machine(logs)
    try:
        from estbench.execution import engines  # noqa: PLC0415  (an extra that not everybody has)
    except ImportError as error:
        raise EstbenchError(f"--jobs, --cluster and --slurm need {error.name}: pip install 'estbench[dask]'") from None
    if settings is not None:
        return engines.slurm(settings, logs, device, threads)
    if cluster is not None:
        return engines.cluster(cluster, jobs, device, threads)
    return engines.local(jobs or 1, device, threads)


def _computed(
    cells: list[Cell],
    conditions: Conditions,
    engine: contextlib.AbstractContextManager[Engine] | None,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Generator[tuple[Cell, Outcome]]:
    """Each cell with its outcome, as it ends; the workers are gone when this is."""
    if not cells:
        return
    if engine is None:
        yield from in_process(cells, conditions, listener, interrupted, prepare)
        return
    from estbench.execution.on_workers import on_workers  # noqa: PLC0415  (an extra that not everybody has)

    with engine as found:
        conditions = replace(
            conditions, engine=found.name, slots=found.slots(), device=found.device, threads=found.threads
        )
        yield from on_workers(longest_first(cells, interrupted), conditions, found, listener, interrupted, prepare)


def _check_amounts(jobs: int | None, threads: int | None, timeout: float | None) -> None:
    for name, value in (("jobs", jobs), ("threads", threads)):
        if value is not None and value < 1:
            raise EstbenchError(f"--{name} {value}: give at least 1")
    if timeout is not None and not 0 < timeout < threading.TIMEOUT_MAX:
        raise EstbenchError(f"--timeout {timeout:g}: give seconds, more than 0")


def _is_stored(folder: ResultsFolder, cell: Cell) -> bool:
    status = folder.status(cell.folder, thorough=True)
    return status is not None and status.final
