"""Run an experiment: what is missing of its cells, then throughput."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from estbench.execution.listener import Listener
from estbench.execution.planning import as_experiment, check_estimators, check_problems, plan_of
from estbench.execution.throughput import time_throughput
from estbench.experiment import Cell, Experiment
from estbench.measure.environment import choose_device
from estbench.registry import load_plugin
from estbench.store import Results, ResultsFolder, load
from estbench.training import Interrupts, run_cell


def run(
    experiment: str | Path | Mapping[str, Any] | Experiment = "quickstart",
    out: str | Path | None = None,
    *,
    device: str = "auto",
    plugins: Iterable[str | Path] = (),
    force: bool = False,
    keep_checkpoints: bool = False,
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
    plugins
        Python files that register estimators, problems or datasets.
    force
        Compute the cells anew, and forget what is stored of them.
    keep_checkpoints
        Leave each finished cell's last checkpoint in its folder.
    listener
        Is told what happens.

    Raises
    ------
    EstbenchError
        For a mistake in what was asked; nothing is written then.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; the running cell is stored as ``interrupted`` and goes on when run again.
    """
    for plugin in plugins:
        load_plugin(plugin)
    listener = listener or Listener()
    chosen = choose_device(device)
    plan = plan_of(as_experiment(experiment))
    training_examples = check_problems(plan)
    check_estimators(plan)
    folder = ResultsFolder(out or Path("results") / plan.experiment.name)
    if folder.plan_file.exists():
        folder.read_plan()
    stored = {} if force else {cell.key for cell in plan if _is_stored(folder, cell)}
    folder.create()
    set_aside = folder.record_plan(plan)
    listener.planned(plan, len(stored), set_aside)
    with Interrupts() as interrupts:
        for cell in plan:
            if cell.key in stored:
                continue
            if force:
                folder.discard(cell)
            listener.cell_started(cell)
            outcome = run_cell(
                cell,
                folder,
                chosen,
                interrupted=interrupts,
                on_step=lambda step, cell=cell: listener.stepped(cell, step),  # type: ignore[misc]
                keep_checkpoint=keep_checkpoints,
            )
            listener.cell_ended(cell, outcome, folder)
            if interrupts():
                raise KeyboardInterrupt
        time_throughput(plan, training_examples, folder, chosen, listener, interrupts, force=force)
        if interrupts():
            raise KeyboardInterrupt
    return load(folder.path)


def _is_stored(folder: ResultsFolder, cell: Cell) -> bool:
    status = folder.status(cell.folder)
    return status is not None and status.final
