"""The training loop: one cell from its first step to its last, read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from estbench.guarded import GuardedPath
from estbench.measure import Clocks
from estbench.store import Status
from estbench.training.divergence import DivergedError, Watch
from estbench.training.measuring import Measurements, evaluation_steps, probe_steps
from estbench.training.probing import probe_shared
from estbench.training.state import State

# Between looks at non-finite values, at the progress bar and at the checkpoint's clock lie at most so many steps, and
# after so many seconds the step that is under way.
STRIDE = 50
STRIDE_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and why where it was not simply done; ``remarks`` are on measurements that it lacks."""

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
    trajectories: GuardedPath | None = None,
) -> Outcome:
    """Train to the last step, measuring on the way; ``state`` collects the curves and the gradients' moments.

    Measuring leaves training bit-identical: every measurement has its own stream of randomness, and models in eval
    mode. On an interruption the run stops between two steps, with a checkpoint from which it goes on to the same bits.
    ``trajectories`` is where the checkpoints of neutral runs are kept, for the probe that all estimators share.
    """
    last, saved = state.cell.training.steps, time.monotonic()
    measurements, watch = Measurements(state, clocks), Watch(state)
    try:
        if state.cell.probe.shared and trajectories:
            with clocks("probe"):
                complete = probe_shared(state, trajectories, probe_steps(state), measurements.probe_batch, interrupted)
            if not complete:
                state.save(checkpoint, clocks.seconds)
                return _interrupted(state)
        if state.step == 0:
            measurements.take()
        while state.step < last:
            pause = _pause(interrupted, min(saved + checkpoint_seconds, time.monotonic() + STRIDE_SECONDS))
            with clocks("training"):
                watch.advance(_steps_to_next_stop(state), pause)
            on_step(state.step)
            measurements.take()
            stopping = interrupted() and state.step < last
            if stopping or time.monotonic() - saved >= checkpoint_seconds:
                with clocks("writing"):
                    state.save(checkpoint, clocks.seconds)
                saved = time.monotonic()
            if stopping:
                return _interrupted(state)
    except DivergedError as error:
        return Outcome(Status.DIVERGED, str(error))
    return Outcome(Status.DONE)


def _pause(interrupted: Callable[[], bool], at: float) -> Callable[[], bool]:
    """Whether to look up from taking steps: asked to stop, or past a time of the monotonic clock."""
    return lambda: interrupted() or time.monotonic() >= at


def _steps_to_next_stop(state: State) -> int:
    due = {*evaluation_steps(state), *probe_steps(state), state.step + STRIDE}
    return min(step for step in due if step > state.step) - state.step


def _interrupted(state: State) -> Outcome:
    return Outcome(Status.INTERRUPTED, f"stopped at step {state.step}; run again to go on")
