"""Where cells run: in this process, one after the other, each leaving its record before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.experiment import (
    Cell,
    Experiment,
    Plan,
    find_experiment,
    make_plan,
    read_experiment,
    stream_seed,
)
from estbench.experiment.spec import experiment_from
from estbench.measure import describe_environment, measure_throughput
from estbench.measure.environment import choose_device
from estbench.measure.randomness import seeded
from estbench.registry import Resolved, load_plugin
from estbench.store import Results, ResultsFolder, Status, load
from estbench.training import Interrupts, Outcome, State, advance, run_cell
from estbench.variant import Variant


class Listener:
    """Is told what happens; this one keeps it to itself."""

    def planned(self, plan: Plan, stored: int, set_aside: int) -> None:
        """A run begins; ``stored`` of its cells are there already, ``set_aside`` are of an earlier protocol."""

    def cell_started(self, cell: Cell) -> None:
        """A cell begins, or goes on from its checkpoint."""

    def stepped(self, cell: Cell, step: int) -> None:
        """A cell has come to ``step``."""

    def cell_ended(self, cell: Cell, outcome: Outcome, folder: ResultsFolder) -> None:
        """A cell has left its record in ``folder``."""

    def timing(self, labels: list[str]) -> None:
        """Throughput is about to be measured for these estimators."""


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
    training_examples = _check_problems(plan)
    _check_estimators(plan)
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
        _time_throughput(plan, training_examples, folder, chosen, listener, interrupts, force=force)
        if interrupts():
            raise KeyboardInterrupt
    return load(folder.path)


def as_experiment(experiment: str | Path | Mapping[str, Any] | Experiment) -> Experiment:
    """An experiment from whatever names it."""
    if isinstance(experiment, Experiment):
        return experiment
    if isinstance(experiment, Mapping):
        return experiment_from(dict(experiment))
    return read_experiment(find_experiment(str(experiment)))


def plan_of(experiment: Experiment) -> Plan:
    """The plan, once every name and option in it is known to be right and every pair to be possible."""
    plan = make_plan(experiment, estimators.REGISTRY.resolve, problems.REGISTRY.resolve)
    for estimator, problem in plan.pairs():
        _check_pair(estimator, problem)
    estimators.REGISTRY.resolve(experiment.throughput.reference)
    return plan


def _check_pair(estimator: Resolved, problem: Resolved) -> None:
    options = problems.REGISTRY.options(Variant(problem.name, problem.options))
    estimators.check_supports(estimators.REGISTRY.get(estimator.name), problems.REGISTRY.get(problem.name), options)


def _check_problems(plan: Plan) -> dict[str, int]:
    """Build each problem once: what it lacks (its data, say) is found before anything is written.

    Returns the number of training examples by the problem's label.
    """
    with torch.random.fork_rng([]):
        return {
            label: len(problems.create(Variant(problem.name, problem.options)).data.train)
            for label, problem in {cell.problem.label: cell.problem for cell in plan}.items()
        }


def _check_estimators(plan: Plan) -> None:
    """Build each estimator once, for the same reason; one that raises anything else fails its own cells."""
    with torch.random.fork_rng([]):
        for estimator in {cell.estimator.label: cell.estimator for cell in plan}.values():
            try:
                estimators.create(Variant(estimator.name, estimator.options))
            except EstbenchError:
                raise
            except Exception:  # noqa: BLE001, S112  (anybody's code; the cell's record will tell)
                continue


def _is_stored(folder: ResultsFolder, cell: Cell) -> bool:
    status = folder.status(cell.folder)
    return status is not None and status.final


def _time_throughput(
    plan: Plan,
    training_examples: Mapping[str, int],
    folder: ResultsFolder,
    device: torch.device,
    listener: Listener,
    interrupted: Callable[[], bool],
    *,
    force: bool,
) -> None:
    """Time the estimators that have no timing yet, beside the reference, once per problem."""
    protocol = plan.experiment.throughput
    timed = set() if force else folder.timed()
    for problem in dict.fromkeys(cell.problem.label for cell in plan):
        cells = {cell.estimator.label: cell for cell in plan if cell.problem.label == problem}
        new = {
            label: cell
            for label, cell in cells.items()
            if (problem, label, min(cell.training.batch_size, training_examples[problem])) not in timed
            and _ran(folder, cell)
        }
        if not new or protocol.rounds == 0:
            continue
        reference = _reference_cell(next(iter(cells.values())), estimators.REGISTRY.resolve(protocol.reference))
        contenders = new if reference is None else {reference.estimator.label: reference, **new}
        listener.timing(list(contenders))
        with seeded(stream_seed(0, "noise"), device):
            states = {label: State(cell, device) for label, cell in contenders.items()}
            rows = measure_throughput(
                {label: lambda steps, state=state: advance(state, steps) for label, state in states.items()},  # type: ignore[misc]
                protocol.rounds,
                protocol.steps,
                device,
                interrupted,
            )
        environment = describe_environment(device)
        shared = {
            "session": datetime.now(UTC).isoformat(timespec="microseconds"),
            "problem": problem,
            "reference": next(iter(contenders)),
            "steps": protocol.steps,
            **{name: environment[name] for name in ("device", "device_name", "threads", "machine", "torch")},
        }
        folder.append_throughput(
            {
                **shared,
                **row,
                "batch_size": states[row["estimator"]].batches.batch_size,
                "evaluations_per_example": states[row["estimator"]].evaluations_per_example,
            }
            for row in rows
        )


def _ran(folder: ResultsFolder, cell: Cell) -> bool:
    return folder.status(cell.folder) in {Status.DONE, Status.DIVERGED}


def _reference_cell(like: Cell, reference: Resolved) -> Cell | None:
    """The reference estimator on the same problem, or nothing where it does not support the problem."""
    try:
        _check_pair(reference, like.problem)
    except EstbenchError:
        return None
    return Cell(reference, like.problem, like.seed, like.training, like.evaluation, like.probe)
