"""What is measured along a run, and when: bounds, the gradient's norm, probes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estbench.experiment import stream_seed
from estbench.measure import Clocks, bounds
from estbench.training.batches import fixed_observations
from estbench.training.divergence import DivergedError, attempt
from estbench.training.probing import record_moments
from estbench.training.state import State

SPLITS = ("train", "validation", "test")


class Measurements:
    """Takes what is due at the state's step, and adds it to the state's rows."""

    def __init__(self, state: State, clocks: Clocks) -> None:
        self.state, self.clocks = state, clocks
        self.observations = {split: _observations(state, split) for split in SPLITS}
        seed = stream_seed(state.cell.seed, "probe")
        self.probe_batch = fixed_observations(state.problem, "train", state.batches.batch_size, seed)

    def take(self) -> None:
        """Measure; ``DivergedError`` where a bound is not finite. What cannot be measured is remarked."""
        state = self.state
        if state.step in evaluation_steps(state):
            with self.clocks("evaluation"):
                for split, x in self.observations.items():
                    with attempt(state, f"{split} bounds", x):
                        self._bounds(split, x)
                if state.step > 0:
                    self._record("train", "gradient_norm", _gradient_norm(state))
                if state.step == state.cell.training.steps and state.cell.evaluation.final_num_samples:
                    self._final_bounds()
        if state.step in probe_steps(state):
            with self.clocks("probe"), attempt(state, "probe", self.probe_batch):
                record_moments(state, state.problem, state.estimator, self.probe_batch, state.step, "own")

    def _bounds(self, split: str, x: Tensor) -> None:
        found = bounds(self.state.problem, x, self.state.cell.evaluation.num_samples, self._seed(split))
        for metric, value in found._asdict().items():
            if not math.isfinite(value):
                raise DivergedError(f"the {split} {metric} is not finite at step {self.state.step}")
            self._record(split, metric, value)

    def _final_bounds(self) -> None:
        """A tighter bound, once, on a part of the images."""
        protocol = self.state.cell.evaluation
        for split in ("validation", "test"):
            x = _observations(self.state, split, protocol.final_examples)
            with attempt(self.state, f"final {split} bound", x):
                found = bounds(self.state.problem, x, protocol.final_num_samples, self._seed(split))
                self._record(split, "iwae_final", found.iwae)

    def _seed(self, split: str) -> int:
        return stream_seed(self.state.cell.seed, "evaluation", split=split)

    def _record(self, split: str, metric: str, value: float) -> None:
        state = self.state
        state.curves.append(
            {
                "step": state.step,
                "examples": state.examples,
                "evaluations": state.evaluations,
                "seconds": self.clocks.seconds["training"],
                "split": split,
                "metric": metric,
                "value": value,
            }
        )


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


def _observations(state: State, split: str, count: int | None = None) -> Tensor:
    """What the bounds are computed on: one fixed draw of binarised pixels, whatever the cell's seed."""
    seed = stream_seed(0, "evaluation", dataset=state.problem.data.name, split=split)
    return fixed_observations(state.problem, split, count or state.cell.evaluation.examples, seed)


def _gradient_norm(state: State) -> float:
    """Euclidean norm of the last step's gradient over all of the model's weights."""
    gradients = [weight.grad for weight in state.problem.parameters() if weight.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))
