"""Where gradients are measured: along a run of its own, and at the checkpoints of one neutral run.

An estimator's *own* trajectory is what its user will see, and each estimator is then at other weights. The *shared*
trajectory is the fair comparison: all estimators at the same checkpoints of a run that the neutral estimator trained,
on the same minibatch and with the same seeds. An estimator's learned parts (a baseline, a control variate) first take
some training steps there, at weights that stand still, and are then frozen.

The neutral run depends on the problem, the seed and the protocol alone. Its checkpoints are kept in the results
folder, ``trajectories/<key>/<step>.pt``, where the first cell that needs one leaves it for the others. Each is written
whole and is the same whoever writes it, so cells may come in any order, at once, and again; a checkpoint that is
missing or damaged is only computed anew.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS, Estimator, check_supports, create_for, surrogate_of
from estbench.experiment import Cell, stream_seed
from estbench.guarded import GuardedPath
from estbench.measure import Reference, estimated_reference, exact_reference, frozen, probe
from estbench.options import BaseOptions
from estbench.problems import PROBLEMS, Problem
from estbench.randomness import seeded
from estbench.registry import Resolved
from estbench.training.batches import Batches
from estbench.training.divergence import DivergedError, Watch, attempt
from estbench.training.state import CheckpointError, State, initial_estimator, noise_seed, optimizer_of
from estbench.variant import Variant

CHECKPOINT = re.compile(r"(\d{1,18})\.pt", re.ASCII)


def record_moments(
    state: State, problem: Problem, estimator: Estimator, batch: Tensor, step: int, trajectory: str
) -> None:
    """Probe an estimator at a problem's weights, and add the rows to the cell's."""
    protocol, seed = state.cell.probe, state.cell.seed
    name = "probe" if trajectory == "own" else "shared probe"
    reference = None
    with attempt(state, f"reference of the {name}"):
        reference = _reference(state, problem, batch, step)
    moments = probe(
        problem,
        estimator,
        batch,
        protocol.replicates,
        stream_seed(seed, "probe", step=step),
        reference=reference,
        path=protocol.path,
    )
    if moments.path == "loop" and protocol.path != "loop":
        state.remark(name, f"takes one backward call per replicate: {moments.reason}")
    for line in moments.absent:
        state.remark(name, f"lacks {line}")
    state.gradients += [{"step": step, "trajectory": trajectory, **row} for row in moments.rows]


def probe_shared(
    state: State, trajectories: GuardedPath, steps: Iterable[int], batch: Tensor, interrupted: Callable[[], bool]
) -> bool:
    """Probe the cell's estimator at each of the neutral run's ``steps``; whether it was not interrupted.

    What an interrupted cell has measured already is kept, and not measured again. What cannot be measured is remarked.
    """
    done = {row["step"] for row in state.gradients if row["trajectory"] == "shared"}
    neutral = neutral_cell(state.cell)
    folder = trajectories / neutral.key[:16]
    for step in sorted(set(steps) - done):
        if interrupted():
            return False
        try:
            with attempt(state, "shared probe"):
                with seeded(noise_seed(neutral), state.device):
                    run = State(neutral, state.device)
                    if not _bring_to(run, step, folder, interrupted):
                        return False
                with seeded(stream_seed(state.cell.seed, "noise", tracking=state.cell.estimator.label), state.device):
                    estimator = tracked(
                        initial_estimator(state.cell, run.problem),
                        run.problem,
                        steps=state.cell.probe.tracking_steps,
                        batch_size=state.batches.batch_size,
                        learning_rate=state.cell.training.estimator_learning_rate or state.cell.training.learning_rate,
                        seed=stream_seed(state.cell.seed, "data", tracking=step),
                    )
                record_moments(state, run.problem, estimator, batch, step, "shared")
        except DivergedError as error:
            message = f"could not be taken from step {step} on: the neutral run of {neutral.estimator.label} diverged"
            state.remark("shared probe", f"{message}, {error}")
            return True
    return True


def neutral_cell(cell: Cell) -> Cell:
    """The run that a cell's shared checkpoints come from."""
    return dataclasses.replace(cell, estimator=ESTIMATORS.resolve(str(cell.probe.shared)))


def check_probe(cell: Cell) -> None:
    """Raise ``EstbenchError`` where a cell's probe names an estimator that there is not, or that cannot serve."""
    problem = PROBLEMS.get(cell.problem.name)
    options = PROBLEMS.options(Variant(cell.problem.name, cell.problem.options))
    if cell.probe.shared is not None:
        checked(cell.probe.shared, problem, options)
    if cell.probe.reference is not None:
        check_reference(cell.probe.reference, problem, options)


def check_reference(name: str, problem: type[Problem], options: BaseOptions) -> None:
    """Raise ``EstbenchError`` for a reference that is unknown, does not support the problem, or is biased itself."""
    if name == "exact":
        return
    resolved = checked(name, problem, options)
    if not ESTIMATORS.get(resolved.name).unbiased:
        raise EstbenchError(
            f"the reference '{resolved.label}' is biased itself; choose an unbiased estimator, or 'exact'"
        )


def checked(variant: str, problem: type[Problem], options: BaseOptions) -> Resolved:
    """An estimator spelled out; ``EstbenchError`` for one that is unknown or does not support the problem."""
    resolved = ESTIMATORS.resolve(variant)
    check_supports(ESTIMATORS.get(resolved.name), problem, options)
    return resolved


def tracked(
    estimator: Estimator, problem: Problem, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> Estimator:
    """The estimator as it learns to be at these weights, which stand still; one without any state stays as it is.

    With torch's current random state for its noise; ``seed`` is that of the minibatches.
    """
    learned = [*estimator.parameters()]
    if not learned and not any(True for _ in estimator.buffers()):
        return estimator
    optimizer = optimizer_of(estimator, learning_rate) if learned else None
    batches = Batches(problem, batch_size, seed)
    with frozen(problem):
        for _ in range(steps):
            surrogate = surrogate_of(estimator, problem(next(batches))).mean()
            if optimizer is not None:
                optimizer.zero_grad()
                surrogate.backward(inputs=learned)  # type: ignore[no-untyped-call]
                optimizer.step()
    return estimator


def _bring_to(run: State, step: int, folder: GuardedPath, interrupted: Callable[[], bool]) -> bool:
    """Load the neutral run's checkpoint at ``step``, or train up to there from the last one that there is."""
    try:
        folder.mkdir()
        names = folder.names()
    except OSError as error:
        raise CheckpointError(error.errno, error.strerror, str(folder)) from error
    known = sorted((int(match[1]) for match in map(CHECKPOINT.fullmatch, names) if match), reverse=True)
    for earlier in known:
        if earlier <= step and run.restore(folder / f"{earlier}.pt") is not None and run.step == earlier:
            break
    if run.step < step:
        Watch(run).advance(step - run.step, interrupted)
        if run.step == step:
            run.save(folder / f"{step}.pt", {})
    return run.step == step


def _reference(state: State, problem: Problem, batch: Tensor, step: int) -> Reference | None:
    """What bias is measured against here; nothing where the protocol asks for nothing."""
    protocol = state.cell.probe
    if protocol.reference is None:
        return None
    seed = stream_seed(state.cell.seed, "probe", step=step, reference=protocol.reference)
    return reference_of(protocol.reference, problem, batch, protocol.reference_replicates, seed)


def reference_of(
    name: str, problem: Problem, batch: Tensor, replicates: int, seed: int, *, layers: bool = False
) -> Reference:
    """The exact gradient, for ``exact``, or that of an estimator by name from many draws."""
    if name == "exact":
        return exact_reference(problem, batch, layers=layers)
    estimator = prepared(name, problem, batch)
    return estimated_reference(problem, estimator, batch, replicates, seed, layers=layers)


def prepared(variant: str, problem: Problem, batch: Tensor) -> Estimator:
    """An estimator, its learned parts sized for the problem."""
    estimator = create_for(variant, problem)
    with frozen(problem), torch.no_grad():
        estimator.prepare(problem(batch))
    return estimator.to(problem.device)
