"""Gradient variance of several estimators at the same checkpoints of one run, which none of them trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field

from estbench.estimators import create_for
from estbench.execution import as_experiment, plan_of
from estbench.experiment import Cell, stream_seed
from estbench.measure import probe
from estbench.options import BaseOptions
from estbench.randomness import seeded
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import log_t_interval, paired_ratio
from estbench.training import State, take_steps
from estbench.training.batches import evaluation_batch
from estbench.training.state import noise_seed


class Settings(BaseOptions):
    """``guide`` is the estimator that trains; ``estimators`` are measured, without parts that learn."""

    problem: str
    guide: str
    estimators: tuple[str, ...] = Field(min_length=2)
    checkpoints: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(ge=1)] = 50
    learning_rate: float = 1e-3
    seeds: Annotated[int, Field(ge=3)] = 5
    replicates: int = Field(default=100, ge=3)


@measurement("shared_checkpoint_variances", Settings)
def shared_checkpoints(options: Settings) -> Measured:
    """Variance of the encoder's minibatch gradient at checkpoints (steps) of the guide's run.

    The minibatch is the same for all, drawn once per seed. Quantities: the ratio of the last estimator's variance to
    each other's, at each checkpoint; pairs are seeds.
    """
    experiment = as_experiment(
        {
            "estimators": [options.guide],
            "problems": [options.problem],
            "seeds": options.seeds,
            "training": {
                "steps": max(1, *options.checkpoints),
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
            },
        }
    )
    found: dict[tuple[str, int], list[float]] = {}
    for cell in plan_of(experiment):
        for estimator, step, variance in _variances(cell, options):
            found.setdefault((estimator, step), []).append(variance)
    *others, last = options.estimators
    quantities = {
        f"{last} / {other}, step {step}": paired_ratio(found[last, step], found[other, step])
        for other in others
        for step in options.checkpoints
    }
    points = []
    for (estimator, step), values in found.items():
        value, low, high, _ = log_t_interval(values)
        points.append({"panel": "encoder", "series": estimator, "x": step, "value": value, "low": low, "high": high})
    axes = (f"step of the run that {options.guide} trains", "variance of the minibatch gradient")
    return Measured(quantities, points, axes, (False, True))


def _variances(cell: Cell, options: Settings) -> Iterator[tuple[str, int, float]]:
    """Estimator, step and variance, at every checkpoint of one run."""
    device = torch.device("cpu")
    with seeded(noise_seed(cell), device):
        state = State(cell, device)
        x = evaluation_batch(state.problem, "train", options.batch_size, stream_seed(cell.seed, "probe"))
        for step in sorted(options.checkpoints):
            take_steps(state, step - state.step)
            for name in options.estimators:
                seed = stream_seed(cell.seed, "probe", estimator=name, step=step)
                moments = probe(state.problem, create_for(name, state.problem), x, options.replicates, seed)
                yield name, step, moments.value("weights", "encoder", "variance")
