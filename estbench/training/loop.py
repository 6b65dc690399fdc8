"""The training loop: one cell from its first step to its last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.estimators import Estimator, surrogate_of
from estbench.guarded import GuardedPath
from estbench.measure import Clocks
from estbench.problems import Problem
from estbench.store import Status
from estbench.training.divergence import DivergedError, Watch
from estbench.training.measuring import (
    evaluate,
    evaluation_observations,
    evaluation_steps,
    probe_batch,
    probe_own,
    probe_steps,
    take_pictures,
)
from estbench.training.optimizers import quick_step
from estbench.training.schedules import set_scheduled
from estbench.training.state import State

# Between two looks at the bounds' schedule, at non-finite values and at the checkpoint's clock lie at most so many
# steps, and after so many seconds only the step that is under way.
STEPS_BETWEEN_LOOKS = 50
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Outcome:
    """The end of a run: its status, the reason if it is not done, and remarks on measurements that it lacks."""

    status: Status
    reason: str = ""
    remarks: tuple[str, ...] = ()


def train(
    state: State,
    clocks: Clocks,
    checkpoint: GuardedPath,
    *,
    checkpoint_seconds: float,
    interrupted: Callable[[], bool],
    on_step: Callable[[int], None],
) -> Outcome:
    """Train to the last step and measure on the way; ``state`` collects the curves and the gradients' moments.

    Measuring leaves training bit-identical: every measurement has its own stream of randomness, and models are in eval
    mode. An interrupted run stops between two steps, and leaves a checkpoint from which it goes on to the same bits.
    """
    last, saved = state.cell.training.steps, time.monotonic()
    evaluate_at, probe_at = evaluation_steps(state), probe_steps(state)
    observations, batch = evaluation_observations(state), probe_batch(state)
    watch = Watch(state, take_steps)

    def measure() -> None:
        if state.step in evaluate_at:
            with clocks("evaluation"):
                evaluate(state, observations, clocks.seconds["training"])
        if state.step in probe_at:
            with clocks("probe"):
                probe_own(state, batch)

    try:
        if state.step == 0:  # what a checkpoint holds was measured before it was written
            measure()
        while state.step < last:
            due = {*evaluate_at, *probe_at, state.step + STEPS_BETWEEN_LOOKS}
            stop = min(step for step in due if step > state.step)
            look_at = min(saved + checkpoint_seconds, time.monotonic() + SECONDS_BETWEEN_LOOKS)
            with clocks("training"):
                watch.take_steps(stop - state.step, _pause(interrupted, look_at))
            on_step(state.step)
            measure()
            stopping = interrupted() and state.step < last
            if stopping or time.monotonic() - saved >= checkpoint_seconds:
                with clocks("writing"):
                    state.save(checkpoint, clocks.seconds)
                saved = time.monotonic()
            if stopping:
                return interruption(state)
        with clocks("evaluation"):
            take_pictures(state, observations["test"])
    except DivergedError as error:
        return Outcome(Status.DIVERGED, str(error))
    return Outcome(Status.DONE)


def mean_surrogate(problem: Problem, estimator: Estimator, x: Tensor) -> tuple[Tensor, int]:
    """Return the minibatch mean of the surrogate, and the evaluations of f that it took."""
    objective = problem(x)
    return surrogate_of(estimator, objective).mean(), objective.evaluations


def take_steps(
    state: State,
    steps: int,
    pause: Callable[[], bool] = lambda: False,
    surrogate_on: Callable[[Tensor], tuple[Tensor, int]] | None = None,
) -> list[Tensor]:
    """Take training steps: gradient ascent on the minibatch mean of the surrogate, whose values are returned.

    It ends early, between two steps, if ``pause`` says so. Nothing here waits for the device. ``surrogate_on`` stands
    in for ``mean_surrogate`` of this problem and estimator.
    """
    problem, estimator, optimizers = state.problem, state.estimator, state.optimizers
    training = state.cell.training
    parameters = [*problem.parameters(), *estimator.parameters()]
    surrogate_on = surrogate_on or partial(mean_surrogate, problem, estimator)
    update_weights = [quick_step(optimizer) for optimizer in optimizers]
    surrogates = []
    scheduled = training.weights_kl or training.temperature is not None
    for _ in range(steps):
        if scheduled:
            set_scheduled(training, state.step, problem, estimator)
        surrogate, evaluations = surrogate_on(next(state.batches))
        if not surrogate.requires_grad:
            raise EstbenchError(
                f"the surrogate of estimator '{state.cell.estimator.label}' has no gradient: it depends on no weight"
                " that is trained; do not detach it"
            )
        for parameter in parameters:  # what Optimizer.zero_grad does, without its profiling hooks: 2 % of a step
            parameter.grad = None
        surrogate.backward()  # type: ignore[no-untyped-call]
        if training.clip_norm is not None:
            state.unclipped_norm = nn.utils.clip_grad_norm_(problem.parameters(), training.clip_norm)
        if training.changes_rates:
            for optimizer, rate in zip(optimizers, state.rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * training.rate_at(state.step)
        for update in update_weights:
            update()
        state.step += 1
        state.evaluations += evaluations
        surrogates.append(surrogate.detach())
        if pause():
            break
    return surrogates


def _pause(interrupted: Callable[[], bool], at: float) -> Callable[[], bool]:
    """Return whether to interrupt taking steps: a stop was asked for, or a time of the monotonic clock has passed."""
    return lambda: interrupted() or time.monotonic() >= at


def interruption(state: State) -> Outcome:
    """Return the outcome of a run that was asked to stop, and left a checkpoint."""
    return Outcome(Status.INTERRUPTED, f"stopped at step {state.step}; run again to resume")
