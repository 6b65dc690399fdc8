"""The throughput pass of a run: after its cells, in this process, while nothing else of the run computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from estbench.devices import deterministic
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.execution.config import Listener
from estbench.execution.planning import check_pair
from estbench.experiment import Cell, Plan, stream_seed
from estbench.failures import failure_of, is_stop
from estbench.measure import describe_environment, measure_throughput
from estbench.randomness import seeded
from estbench.registry import Resolved
from estbench.store import ResultsFolder, Status
from estbench.training import State
from estbench.training.divergence import DivergedError
from estbench.training.isolation import isolated, seed_generators
from estbench.training.loop import take_finite_steps


def time_throughput(
    plan: Plan,
    training_examples: Mapping[str, int],
    folder: ResultsFolder,
    device: torch.device,
    listener: Listener,
    interrupted: Callable[[], bool],
    *,
    force: bool,
) -> None:
    """Time the estimators that have no timing yet, together with the reference, once per problem and batch size.

    One that diverges is left out, and a row without seconds says so, because it would diverge again; one that raises
    is tried again by the next run.
    """
    protocol = plan.experiment.throughput
    for (problem, batch_size), new in untimed(plan, training_examples, folder, force=force).items():
        reference = _reference_cell(next(iter(new.values())), ESTIMATORS.resolve(protocol.reference))
        contenders = new if reference is None else {reference.estimator.label: reference, **new}
        listener.timing(list(contenders))
        rows: list[dict[str, Any]] = []
        diverged: list[str] = []
        code = {label: cell.code for label, cell in contenders.items()}
        while contenders:
            states: dict[str, State] = {}
            try:
                with deterministic(device), seeded(stream_seed(0, "noise"), device), isolated():
                    seed_generators(stream_seed(0, "noise"))
                    runners = {label: _runner(cell, states, device, interrupted) for label, cell in contenders.items()}
                    counted = _count_rounds(protocol.rounds, listener, interrupted)
                    rows = measure_throughput(runners, protocol.rounds, protocol.steps, device, counted)
                    costs = {label: state.evaluations_per_example for label, state in states.items()}
                break
            except _CannotBeTimedError as error:
                listener.noted(f"{error.label} on {problem} cannot be timed, so it has no throughput: {error}")
                del contenders[error.label]
                diverged += [error.label] if error.diverged else []
        environment = describe_environment(device)
        shared = {
            "session": datetime.now(UTC).isoformat(timespec="microseconds"),
            "problem": problem,
            "reference": next(iter(contenders), None),
            "batch_size": batch_size,
            "steps": protocol.steps,
            **{name: environment[name] for name in ("device", "device_name", "threads", "machine", "torch")},
        }
        rows = [{"evaluations_per_example": costs[row["estimator"]], **row} for row in rows]
        rows += [{"estimator": label} for label in diverged]
        folder.append_throughput({**shared, "code": code[row["estimator"]], **row} for row in rows)


def _count_rounds(rounds: int, listener: Listener, interrupted: Callable[[], bool]) -> Callable[[], bool]:
    """Return a function that is asked before each round, outside the clock: the listener hears of the rounds."""
    done = itertools.count()

    def ask() -> bool:
        listener.timed(next(done), rounds)
        return interrupted()

    return ask


class _CannotBeTimedError(Exception):
    """An estimator raised while it was timed; the others are timed without it."""

    def __init__(self, label: str, error: BaseException) -> None:
        super().__init__(failure_of(error).reason)
        self.label, self.diverged = label, isinstance(error, DivergedError)


def _runner(
    cell: Cell, states: dict[str, State], device: torch.device, interrupted: Callable[[], bool]
) -> Callable[[int], None]:
    """Return how to take steps of a cell; what it consists of is built at the first call, whose memory is measured."""

    def guarded(do: Callable[[], object]) -> None:
        try:
            do()
        except BaseException as error:
            if is_stop(error, interrupted):
                raise
            raise _CannotBeTimedError(cell.estimator.label, error) from None

    def take_steps(steps: int) -> None:
        if cell.estimator.label not in states:
            states[cell.estimator.label] = State(cell, device)
        take_finite_steps(states[cell.estimator.label], steps)

    return lambda steps: guarded(lambda: take_steps(steps))


def untimed(
    plan: Plan, training_examples: Mapping[str, int], folder: ResultsFolder, *, force: bool
) -> dict[tuple[str, int], dict[str, Cell]]:
    """One cell per estimator that ran and has no timing yet, by problem and batch size, then by the estimator's label.

    Cells that differ in their learning rates or seeds share a timing, of one that is done if any is; so do those of
    other optimisers of the model.
    """
    if plan.experiment.throughput.rounds == 0:
        return {}
    timed = set() if force else folder.timed()
    found: dict[tuple[str, int], dict[str, Cell]] = {}
    for wanted, cell in itertools.product((Status.DONE, Status.DIVERGED), plan):
        problem, label = cell.problem.label, cell.estimator.label
        batch_size = min(cell.training.batch_size, training_examples[problem])
        if (cell.code, batch_size) in timed or label in found.get((problem, batch_size), {}):
            continue
        if folder.status(cell.folder) is wanted:
            found.setdefault((problem, batch_size), {})[label] = cell
    return found


def _reference_cell(like: Cell, reference: Resolved) -> Cell | None:
    """Return the cell of the reference estimator on the same problem; None if it does not support the problem."""
    try:
        check_pair(reference, like.problem)
    except EstbenchError:
        return None
    return Cell(reference, like.problem, like.seed, like.training, like.evaluation, like.probe)
