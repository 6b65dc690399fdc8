"""The throughput pass of a run: after its cells, in this process, while nothing else of the run computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from estbench.devices import deterministic
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.execution.config import Listener
from estbench.execution.planning import check_pair
from estbench.experiment import Cell, Plan, stream_seed
from estbench.experiment.spec import EAGER
from estbench.failures import failure_of, is_stop
from estbench.measure import describe_environment, measure_throughput
from estbench.randomness import seeded
from estbench.registry import Resolved
from estbench.store import ResultsFolder, Status
from estbench.training import State
from estbench.training.compiled import CannotCompileError, CompiledSteps
from estbench.training.divergence import DivergedError
from estbench.training.isolation import isolated, seed_generators
from estbench.training.loop import take_steps


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

    One that diverges, or that torch cannot compile, is left out, and a row without seconds says so, because it would
    end so again; one that raises is tried again by the next run.
    """
    protocol = plan.experiment.throughput
    for (problem, batch_size), cells in untimed(plan, training_examples, folder, force=force).items():
        contenders = {each.name: each for each in _contenders(cells, ESTIMATORS.resolve(protocol.reference), device)}
        listener.timing(list(contenders))
        failed: dict[str, _CannotBeTimedError] = {}
        with deterministic(device), seeded(stream_seed(0, "noise"), device), isolated():
            seed_generators(stream_seed(0, "noise"))
            rows = measure_throughput(
                {name: partial(each.take_steps, interrupted) for name, each in contenders.items()},
                protocol.rounds,
                protocol.steps,
                device,
                _count_rounds(protocol.rounds, listener, interrupted),
                partial(_note_failure, failed, listener, problem),
            )
            timed = [{**row, **contenders[row["estimator"]].facts()} for row in rows]
        environment = describe_environment(device)
        references: dict[str, str] = {}
        for name, each in contenders.items():
            if name not in failed:
                references.setdefault(each.mode, each.label)
        timed += [
            {**contenders[name].names(), **error.kept} for name, error in failed.items() if error.kept is not None
        ]
        shared = {
            "session": datetime.now(UTC).isoformat(timespec="microseconds"),
            "problem": problem,
            "batch_size": batch_size,
            "steps": protocol.steps,
            **{name: environment[name] for name in ("device", "device_name", "threads", "machine", "torch")},
        }
        folder.append_throughput({**shared, "reference": references.get(row["mode"]), **row} for row in timed)


def _count_rounds(rounds: int, listener: Listener, interrupted: Callable[[], bool]) -> Callable[[], bool]:
    """Return a function that is asked before each round, outside the clock: the listener hears of the rounds."""
    done = itertools.count()

    def ask() -> bool:
        listener.timed(next(done), rounds)
        return interrupted()

    return ask


class _CannotBeTimedError(Exception):
    """An estimator raised while it was timed; the others are timed without it.

    ``kept`` is what a row without seconds says of it, if the next run would only meet the same end; else None.
    """

    def __init__(self, error: BaseException) -> None:
        not_compiled = isinstance(error, CannotCompileError)
        super().__init__(f"torch cannot compile it: {error}" if not_compiled else failure_of(error).reason)
        self.kept: dict[str, Any] | None = {} if isinstance(error, DivergedError) else None
        if not_compiled:
            self.kept = {"graph_breaks": f"not compiled: {error}"}


def _note_failure(
    failed: dict[str, _CannotBeTimedError], listener: Listener, problem: str, name: str, error: BaseException
) -> None:
    if not isinstance(error, _CannotBeTimedError):  # a signal to stop
        raise error
    failed[name] = error
    listener.noted(f"{name} on {problem} cannot be timed, so it has no throughput: {error}")


class _Contender:
    """An estimator in one mode; what its steps need is built at the first of them, whose memory is measured."""

    def __init__(self, cell: Cell, mode: str, device: torch.device) -> None:
        self.cell, self.mode, self.device = cell, mode, device
        self.label = cell.estimator.label
        self.name = self.label if mode == EAGER else f"{self.label} ({mode})"
        self.state: State | None = None
        self.compiled: CompiledSteps | None = None

    def take_steps(self, interrupted: Callable[[], bool], steps: int) -> None:
        """Take steps; ``_CannotBeTimedError`` for whatever is raised there, and if one of them is not finite."""
        try:
            if self.state is None:
                self.state = State(self.cell, self.device)
                self.compiled = None if self.mode == EAGER else CompiledSteps(self.state)
            taken = take_steps(self.state, steps) if self.compiled is None else self.compiled.take(steps)
            if not bool(torch.isfinite(torch.stack(taken)).all()):
                raise DivergedError(f"the run is not finite within {self.state.step} steps")  # noqa: TRY301
        except BaseException as error:
            if is_stop(error, interrupted):
                raise
            raise _CannotBeTimedError(error) from None

    def names(self) -> dict[str, Any]:
        """Return what every row says of it."""
        return {"estimator": self.label, "code": self.cell.code, "mode": self.mode, "graph_breaks": ""}

    def facts(self) -> dict[str, Any]:
        """Return what a row with seconds says of it beside them."""
        assert self.state is not None
        facts = {**self.names(), "evaluations_per_example": self.state.evaluations_per_example}
        if self.compiled is not None:
            facts |= {"compile_seconds": self.compiled.seconds, "graph_breaks": "; ".join(self.compiled.breaks)}
            if self.device.type == "cpu":  # where the compiler's memory is in it
                facts["peak_memory_bytes"] = None
        return facts


def _contenders(cells: Mapping[tuple[str, str], Cell], reference: Resolved, device: torch.device) -> list[_Contender]:
    """Return what is timed together: the reference in each mode, if it supports the problem, and all that is new."""
    twin = _reference_cell(next(iter(cells.values())), reference)
    modes = dict.fromkeys(mode for _, mode in cells)
    twins = {} if twin is None else {(reference.label, mode): twin for mode in modes}
    return [_Contender(cell, mode, device) for (_, mode), cell in {**twins, **cells}.items()]


def untimed(
    plan: Plan, training_examples: Mapping[str, int], folder: ResultsFolder, *, force: bool
) -> dict[tuple[str, int], dict[tuple[str, str], Cell]]:
    """One cell per estimator and mode that has no timing yet, by problem and batch size, then by label and mode.

    Cells that differ in their learning rates or seeds share a timing, of one that is done if any is; so do those of
    other optimisers of the model. Nothing is timed of an estimator that did not run.
    """
    protocol = plan.experiment.throughput
    if protocol.rounds == 0:
        return {}
    timed = set() if force else folder.timed()
    found: dict[tuple[str, int], dict[tuple[str, str], Cell]] = {}
    for wanted, cell in itertools.product((Status.DONE, Status.DIVERGED), plan):
        problem, label, own = cell.problem.label, cell.estimator.label, cell.training.batch_size
        sizes = dict.fromkeys(min(size, training_examples[problem]) for size in (own, *protocol.batch_sizes))
        missing = [
            (size, mode)
            for size, mode in itertools.product(sizes, protocol.modes)
            if (cell.code, size, mode) not in timed and (label, mode) not in found.get((problem, size), {})
        ]
        if missing and folder.status(cell.folder) is wanted:
            for size, mode in missing:
                found.setdefault((problem, size), {})[label, mode] = replace(
                    cell, training=cell.training.model_copy(update={"batch_size": size})
                )
    return found


def _reference_cell(like: Cell, reference: Resolved) -> Cell | None:
    """Return the cell of the reference estimator on the same problem; None if it does not support the problem."""
    try:
        check_pair(reference, like.problem)
    except EstbenchError:
        return None
    return Cell(reference, like.problem, like.seed, like.training, like.evaluation, like.probe)
