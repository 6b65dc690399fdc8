"""Probes at the checkpoints of one neutral run, which all estimators share.

An estimator's *own* trajectory is what its user will see, but there each estimator is at other weights. The *shared*
trajectory is the fair comparison: all estimators at the same checkpoints of one run, which the neutral estimator
(``probe.shared``) trained, on the same minibatch and with the same seeds. An estimator's learned parts (a baseline, a
control variate) first take some training steps at these weights, which do not move, and are then frozen.

The neutral run depends only on the problem, the seed and the protocol. Its checkpoints are kept in the results
folder, ``trajectories/<key>/<step>.pt``; the first cell that needs one writes it for the others. Each is written as a
whole and has the same content whoever writes it, so cells may run in any order, at the same time, and again. A missing
or damaged checkpoint is computed again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from estbench.estimators import ESTIMATORS, Estimator, surrogate_of
from estbench.experiment import Cell, stream_seed
from estbench.guarded import GuardedPath
from estbench.measure import frozen
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.training.batches import Batches
from estbench.training.divergence import DivergedError, Watch, attempt
from estbench.training.loop import take_steps
from estbench.training.measuring import probe_batch, probe_steps, record_moments
from estbench.training.optimizers import optimizer_of
from estbench.training.schedules import set_scheduled
from estbench.training.state import CheckpointError, State, initial_estimator, noise_seed

CHECKPOINT = re.compile(r"(\d{1,18})\.pt", re.ASCII)


def probe_shared(state: State, trajectories: GuardedPath, interrupted: Callable[[], bool]) -> bool:
    """Probe the cell's estimator at the checkpoints of the neutral run, if the protocol says so.

    Return False if it was interrupted; what was measured is kept, and not measured again. What cannot be measured is
    remarked.
    """
    if not state.cell.probe.shared:
        return True
    batch = probe_batch(state)
    done = {row["step"] for row in state.gradients if row["trajectory"] == "shared"}
    neutral = neutral_cell(state.cell)
    # Devices of different types have different noise, and runs of their own.
    on_device = "" if state.device.type == "cpu" else f"-{state.device.type}"
    folder = trajectories / f"{neutral.key[:16]}{on_device}"
    for step in sorted(probe_steps(state) - done):
        if interrupted():
            return False
        try:
            with attempt(state, "shared probe"):
                with seeded(noise_seed(neutral), state.device):
                    run = State(neutral, state.device)
                    if not _bring_to(run, step, folder, interrupted):
                        return False
                with seeded(stream_seed(state.cell.seed, "noise", tracking=state.cell.estimator.label), state.device):
                    estimator = initial_estimator(state.cell, run.problem)
                    set_scheduled(state.cell.training, step - 1, run.problem, estimator)
                    estimator = adapted(
                        estimator,
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
    """Return the cell that trains the shared checkpoints of a cell."""
    return dataclasses.replace(cell, estimator=ESTIMATORS.resolve(str(cell.probe.shared)))


def adapted(
    estimator: Estimator, problem: Problem, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> Estimator:
    """Train an estimator's state and learned parts at fixed weights; one without any stays as it is.

    Its noise comes from torch's current random state; ``seed`` is that of the minibatches.
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
    """Load the neutral run's checkpoint at ``step``, or train up to there from the last one that exists."""
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
        Watch(run, take_steps).take_steps(step - run.step, interrupted)
        if run.step == step:
            run.save(folder / f"{step}.pt", {})
    return run.step == step
