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

from estbench.devices import choose_device
from estbench.errors import EstbenchError, EstbenchWarning
from estbench.estimators import ESTIMATORS
from estbench.execution.config import Listener, RunConfig, listening
from estbench.execution.local import compute_here
from estbench.execution.planning import (
    as_experiment,
    check_parts,
    load_isolated,
    longest_first,
    plan_of,
    unused_metrics,
    whole_batches,
)
from estbench.execution.slurm import Slurm, read_slurm
from estbench.execution.throughput import time_throughput, untimed
from estbench.experiment import Cell, Experiment, Plan
from estbench.guarded import GuardedPath
from estbench.measure import METRICS
from estbench.problems import PROBLEMS
from estbench.registry import Registry
from estbench.store import Results, ResultsFolder, Status, load
from estbench.store.attempts import forget_attempts
from estbench.store.lock import one_run
from estbench.store.pack import PUBLISHED, unpack_published
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
    progress: bool | None = None,
) -> Results:
    """Run what is missing of an experiment, and return all of its results.

    Parameters
    ----------
    experiment
        A TOML file, the name of a ready experiment, plain data, or an ``Experiment``.
    out
        The results folder; ``results/<name>`` if not given.
    device
        ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``.
    jobs
        Number of worker processes on this machine; with ``cluster``, of cells at a time. Without any engine the
        cells run in this process, one after the other.
    cluster
        The address of a dask scheduler, or its scheduler file.
    slurm
        A TOML file that describes the jobs to submit.
    threads
        Threads of each cell; by default the cores are divided among the cells that run at a time.
    timeout
        Seconds that a cell may take in one run. A cell that hangs (a deadlock, native code) cannot be stopped from
        within its process: a worker then ends, and only that cell is lost. Without workers a message says so after
        10 % more time, and the call does not return; restart the process or the kernel and run again.
    plugins
        Python files that register estimators, problems, datasets or metrics; workers load them, too.
    force
        Compute the cells again, and delete what is stored of them.
    keep_checkpoints
        Leave each finished cell's last checkpoint in its folder.
    exit_if_hung
        End this process if a cell in it hangs past its ``timeout``, as the command line does.
    listener
        Is called when something happens. If nothing is shown either, a warning names the cells that failed.
    progress
        Whether to show progress, as the command line does: bars on a terminal and in a notebook, lines elsewhere. By
        default only in a notebook; a ``listener`` takes its place.

    Raises
    ------
    EstbenchError
        If the request is wrong (an unknown name, an impossible pair); nothing was written.
    ConnectionError
        If the scheduler was lost; run again to resume.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; running cells are stored as ``interrupted``, and resume when run again.
    """
    threads_here = threads or torch.get_num_threads()
    with contextlib.ExitStack() as stack, Interrupts(polite=False) as interrupts:
        listener = stack.enter_context(listening(listener, progress=progress))
        accept_threads()  # also those that draw bars
        # Whatever can be refused is refused here, before anything is written.
        plugin_files = tuple(Path(plugin).absolute() for plugin in plugins)
        for file in plugin_files:
            _load(file, listener)
        _check_amounts(jobs, threads, timeout)
        remote = cluster is not None or slurm is not None
        here = torch.device("cpu") if remote else choose_device(device)
        plan = plan_of(as_experiment(experiment))
        training_examples = check_parts(plan, interrupts)
        folder = ResultsFolder(out or Path("results") / plan.experiment.name)
        path = folder.path.resolve()
        engine = _choose_engine(
            jobs, cluster, slurm, device if remote else str(here), threads, GuardedPath(path, "slurm")
        )
        if engine is not None:
            _check_origins(plan)
        config = RunConfig(
            path,
            str(here),
            threads_here,
            timeout=timeout,
            keep_checkpoints=keep_checkpoints,
            exit_if_hung=exit_if_hung,
            plugins=plugin_files,
        )

        folder.create()
        with one_run(folder.path, listener.noted):
            interrupts.polite = True
            if published := unpack_published(folder):
                listener.noted(f"{published} published runs of {folder.path / PUBLISHED} are not computed again")
            todo = _record_plan(plan, training_examples, folder, listener, force=force)
            for hint in unused_metrics(plan) if plugin_files else ():
                listener.noted(hint)
            failures = _run_cells(todo, folder, config, engine, listener, interrupts, force=force)
            if interrupts():
                raise KeyboardInterrupt
            if not remote:
                time_throughput(plan, training_examples, folder, here, listener, interrupts, force=force)
            elif untimed(plan, training_examples, folder, force=force):
                listener.noted(
                    "throughput is only measured on a quiet machine: run again without a cluster; finished runs are "
                    "not computed again"
                )
            if interrupts():
                raise KeyboardInterrupt
            if failures and type(listener) is Listener:  # which prints nothing
                _warn(failures, len(plan))
            return load(folder.path)


def _record_plan(
    plan: Plan, training_examples: Mapping[str, int], folder: ResultsFolder, listener: Listener, *, force: bool
) -> list[Cell]:
    """Write the plan into the results folder, and return the cells that have no result there yet."""
    if folder.plan_file.exists():
        folder.read_plan()  # a damaged one is an error before anything is written
    elif folder.report.exists():
        listener.noted(f"the report in '{folder.report}' is of other results, whose runs are not here: it is replaced")
    todo = [cell for cell in plan if force or not _is_stored(folder, cell)]
    remarks = folder.record_plan(plan)
    listener.planned(plan, len(plan) - len(todo))
    for remark in [*remarks, *whole_batches(plan, training_examples)]:
        listener.noted(remark)
    return todo


def _run_cells(
    cells: list[Cell],
    folder: ResultsFolder,
    config: RunConfig,
    engine: contextlib.AbstractContextManager[Engine] | None,
    listener: Listener,
    interrupts: Interrupts,
    *,
    force: bool,
) -> dict[str, str]:
    """Compute the cells; return the reason of each one that failed, by its folder."""

    def prepare(cell: Cell) -> None:
        if force or folder.is_damaged(cell):
            folder.discard(cell)
            forget_attempts(folder, cell)

    failures: dict[str, str] = {}
    reported: set[str] = set()
    with contextlib.closing(_compute(cells, config, engine, listener, interrupts, prepare)) as outcomes:
        for cell, outcome in outcomes:
            listener.cell_ended(cell, outcome, folder)
            for line in set(outcome.remarks) - reported:  # other seeds repeat it
                listener.noted(f"{cell.estimator.label} on {cell.problem.label}, seed {cell.seed}, {line}")
            reported |= {*outcome.remarks}
            if outcome.status in {Status.FAILED, Status.TIMEOUT}:
                failures[cell.folder] = f"{outcome.status}: {outcome.reason}"
    return failures


def _warn(failures: Mapping[str, str], planned: int) -> None:
    """Warn of cells that failed, with the reason of each; for callers without a listener."""
    named = "".join(f"\n  {folder}: {visible(reason)}" for folder, reason in [*failures.items()][:MOST_NAMED])
    more = f"\n  and {len(failures) - MOST_NAMED} more" if len(failures) > MOST_NAMED else ""
    warnings.warn(f"{len(failures)} of {planned} runs have no result:{named}{more}", EstbenchWarning, stacklevel=4)


def _load(plugin: Path, listener: Listener) -> None:
    """Load a plugin, and report what it changed in the process when it was imported."""
    for name in load_isolated(plugin):
        listener.noted(f"the plugin '{plugin.name}' changed {name} when it was imported; it was set back")
    if threads := threads_left():
        listener.noted(
            f"the plugin '{plugin.name}' starts threads when it is imported ({', '.join(threads)}): if they draw "
            "random numbers, results differ from run to run; start them in the estimator"
        )


def _check_origins(plan: Plan) -> None:
    """Refuse code of a script or a notebook if there are worker processes, which cannot import it."""
    origins: set[tuple[Registry[Any], str, str]] = set()
    for cell in plan:
        origins.add((ESTIMATORS, cell.estimator.label, cell.estimator.name))
        origins.add((PROBLEMS, cell.problem.label, cell.problem.name))
        origins |= {(METRICS, name, name) for name in cell.evaluation.metrics}
    for registry, label, name in origins:
        if registry.get(name).__module__ == "__main__":
            raise EstbenchError(
                f"the {registry.kind} '{label}' is defined in __main__, and worker processes do not see it: put it "
                "into a file and give that as a plugin (plugins=['FILE.py'], --plugin FILE.py), or run without workers"
            )


def _choose_engine(
    jobs: int | None,
    cluster: str | None,
    slurm: str | Path | Slurm | None,
    device: str,
    threads: int | None,
    logs: GuardedPath,
) -> contextlib.AbstractContextManager[Engine] | None:
    """Return what starts the workers; None if the cells run in this process."""
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


def _compute(
    cells: list[Cell],
    config: RunConfig,
    engine: contextlib.AbstractContextManager[Engine] | None,
    listener: Listener,
    interrupted: Callable[[], bool],
    prepare: Callable[[Cell], None],
) -> Generator[tuple[Cell, Outcome]]:
    """Yield each cell with its outcome when it ends; no worker is left after the last."""
    if not cells:
        return
    if engine is None:
        yield from compute_here(cells, config, listener, interrupted, prepare)
        return
    from estbench.execution.on_workers import compute_on_workers  # noqa: PLC0415  (an extra that not everybody has)

    with engine as workers:
        config = replace(
            config, engine=workers.name, slots=workers.slots(), device=workers.device, threads=workers.threads
        )
        ordered = longest_first(cells, interrupted)
        yield from compute_on_workers(ordered, config, workers, listener, interrupted, prepare)


def _check_amounts(jobs: int | None, threads: int | None, timeout: float | None) -> None:
    for name, value in (("jobs", jobs), ("threads", threads)):
        if value is not None and value < 1:
            raise EstbenchError(f"--{name} {value}: give at least 1")
    if timeout is not None and not 0 < timeout < threading.TIMEOUT_MAX:
        raise EstbenchError(f"--timeout {timeout:g}: give seconds, more than 0")


def _is_stored(folder: ResultsFolder, cell: Cell) -> bool:
    status = folder.status(cell.folder, thorough=True)
    return status is not None and status.final
