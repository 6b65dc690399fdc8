"""The training loop: one cell from its first step to its last, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from estbench.experiment import stream_seed
from estbench.guarded import GuardedPath
from estbench.measure import Clocks, bounds
from estbench.store import Status
from estbench.training.batches import fixed_observations
from estbench.training.probing import probe_shared, record_moments
from estbench.training.state import State
from estbench.training.step import advance

SPLITS = ("train", "validation", "test")
# Steps between looks at the progress bar, at non-finite values and at the checkpoint's clock.
STRIDE = 50


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and why where it was not simply done."""

    status: Status
    reason: str = ""


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

    Measuring leaves training bit-identical: every measurement has its own stream of randomness. On an interruption
    the run stops between two steps, with a checkpoint from which it goes on to the same bits. ``trajectories`` is
    where the checkpoints of neutral runs are kept, for the probe that all estimators share.
    """
    last = state.cell.training.steps
    observations = {split: _observations(state, split) for split in SPLITS}
    probe_batch = fixed_observations(state.problem, "train", state.batches.batch_size, _seed(state, "probe"))
    saved = time.monotonic()

    if state.cell.probe.shared and trajectories:
        with clocks("probe"):
            complete = probe_shared(state, trajectories, probe_steps(state), probe_batch, interrupted)
        if not complete:
            state.save(checkpoint, clocks.seconds)
            return Outcome(Status.INTERRUPTED, f"stopped at step {state.step}; run again to go on")
    if state.step == 0 and (complaint := measure(state, clocks, observations, probe_batch)):
        return Outcome(Status.DIVERGED, complaint)
    while state.step < last:
        with clocks("training"):
            surrogates = advance(state, _next_stop(state) - state.step, interrupted)
            bad = _first_non_finite(state, surrogates)
        on_step(state.step)
        if bad is not None:
            state.step = bad  # those after it, up to the stride's end, were taken with weights that are not finite
            return Outcome(Status.DIVERGED, f"the surrogate or its gradient is not finite at step {bad}")
        if complaint := measure(state, clocks, observations, probe_batch):
            return Outcome(Status.DIVERGED, complaint)
        stopping = interrupted() and state.step < last
        if stopping or time.monotonic() - saved >= checkpoint_seconds:
            with clocks("writing"):
                state.save(checkpoint, clocks.seconds)
            saved = time.monotonic()
        if stopping:
            return Outcome(Status.INTERRUPTED, f"stopped at step {state.step}; run again to go on")
    return Outcome(Status.DONE)


def measure(state: State, clocks: Clocks, observations: dict[str, Tensor], probe_batch: Tensor) -> str:
    """Take the measurements that are due at this step; return a complaint where a bound is not finite."""
    if state.step in evaluation_steps(state):
        with clocks("evaluation"):
            for split, x in observations.items():
                found = bounds(state.problem, x, state.cell.evaluation.num_samples, _seed(state, split))
                for metric, value in found._asdict().items():
                    if not math.isfinite(value):
                        return f"the {split} {metric} is not finite at step {state.step}"
                    _record(state, clocks, split, metric, value)
            if state.step > 0:
                _record(state, clocks, "train", "gradient_norm", float(_gradient_norm(state)))
            if state.step == state.cell.training.steps and state.cell.evaluation.final_num_samples:
                _final_bound(state, clocks)
    if state.step in probe_steps(state):
        with clocks("probe"):
            record_moments(state, state.problem, state.estimator, probe_batch, state.step, "own")
    return ""


def evaluation_steps(state: State) -> set[int]:
    """Step 0, every so many, and the last."""
    last = state.cell.training.steps
    return {*range(0, last, state.cell.evaluation.every), last}


def probe_steps(state: State) -> set[int]:
    """Log-spaced from the first step to the last."""
    last, points = state.cell.training.steps, state.cell.probe.points
    if state.cell.probe.replicates == 0:
        return set()
    return {last, *(round(last ** (index / (points - 1))) for index in range(points - 1))}


def _next_stop(state: State) -> int:
    due = {*evaluation_steps(state), *probe_steps(state), state.step + STRIDE}
    return min(step for step in due if step > state.step)


def _final_bound(state: State, clocks: Clocks) -> None:
    """A tighter bound, once, on a part of the images."""
    protocol = state.cell.evaluation
    for split in ("validation", "test"):
        x = _observations(state, split, protocol.final_examples)
        found = bounds(state.problem, x, protocol.final_num_samples, _seed(state, split))
        _record(state, clocks, split, "iwae_final", found.iwae)


def _observations(state: State, split: str, count: int | None = None) -> Tensor:
    """What the bounds are computed on: one fixed draw of binarised pixels, whatever the cell's seed."""
    seed = stream_seed(0, "evaluation", dataset=state.problem.data.name, split=split)
    return fixed_observations(state.problem, split, count or state.cell.evaluation.examples, seed)


def _seed(state: State, purpose: str) -> int:
    if purpose == "probe":
        return stream_seed(state.cell.seed, "probe")
    return stream_seed(state.cell.seed, "evaluation", split=purpose)


def _record(state: State, clocks: Clocks, split: str, metric: str, value: float) -> None:
    state.curves.append(
        {
            "step": state.step,
            "examples": state.examples,
            "evaluations": state.evaluations,
            "seconds": clocks.seconds["training"],
            "split": split,
            "metric": metric,
            "value": value,
        }
    )


def _first_non_finite(state: State, surrogates: list[Tensor]) -> int | None:
    """The first of the steps just taken whose surrogate was not finite, or the last one if its gradient was not.

    Adam turns a gradient that is not finite into weights that are not, so the next surrogate shows it; only the last
    gradient has to be looked at. One look per stride keeps the device busy and the step cheap.
    """
    finite = torch.isfinite(torch.stack(surrogates))
    if not bool(finite.all()):
        return state.step - len(surrogates) + int(finite.logical_not().nonzero()[0]) + 1
    return None if bool(torch.isfinite(_gradient_norm(state))) else state.step


def _gradient_norm(state: State) -> Tensor:
    """Euclidean norm of the last step's gradient over all of the model's weights."""
    return torch.nn.utils.get_total_norm([p.grad for p in state.problem.parameters() if p.grad is not None])
