"""A toy bit on its way to zero, the cheaper of its values: what cost is left, and how noisy the gradient is."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from estbench.execution import as_experiment, plan_of
from estbench.experiment import Cell, stream_seed
from estbench.options import BaseOptions
from estbench.problems import bernoulli_toy
from estbench.randomness import seeded
from estbench.reproduce.draws import SampleVariance, parameter_draws
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval, log_t_interval, t_interval
from estbench.training import State, take_steps
from estbench.training.state import noise_seed

COST, NOISE = "expected cost left", "variance of one estimate"
Curve = list[tuple[float, float, float]]  # at each checkpoint: cost left, variance, REINFORCE's variance


class Settings(BaseOptions):
    """Estimators are variants; ``points`` checkpoints are evenly spaced over the steps, beside the start."""

    target: float = Field(ge=0, lt=0.5)
    estimators: tuple[str, ...]
    steps: Annotated[int, Field(ge=1)]
    points: Annotated[int, Field(ge=1)] = 10
    learning_rate: float = 0.01
    seeds: Annotated[int, Field(ge=3)] = 5
    replicates: int = Field(default=1000, ge=100)


@measurement("bernoulli_toy_training", Settings)
def toy_training(options: Settings) -> Measured:
    """Train the logit of ``bernoulli_toy`` with each estimator, one estimate a step, from a fair coin.

    Quantities of each estimator, over seeds: the expected cost left at the end (of what lay between the start and
    the optimum, so it starts from 1); and its variance relative to the closed form for REINFORCE *at the same theta*,
    geometric mean over the checkpoints after the start. Different estimators are at different theta after as many
    steps, where plain variances would not compare.
    """
    plan = plan_of(
        as_experiment(
            {
                "estimators": options.estimators,
                "problems": [f"bernoulli_toy[target={options.target!r}]"],
                "seeds": options.seeds,
                "training": {"steps": options.steps, "batch_size": 1, "learning_rate": options.learning_rate},
            }
        )
    )
    curves: dict[str, list[Curve]] = {}
    for cell in plan:
        curves.setdefault(cell.estimator.label, []).append(_curve(cell, options))
    quantities: dict[str, Interval] = {}
    points = []
    for estimator, runs in curves.items():
        costs, variances, references = np.moveaxis(np.array(runs), -1, 0)  # each (seeds, 1 + points)
        quantities[f"{estimator}: cost left"] = t_interval(costs[:, -1])
        with np.errstate(divide="ignore"):  # the geometric mean with a zero is zero
            ratios = np.exp(np.log(variances[:, 1:] / references[:, 1:]).mean(1))
        quantities[f"{estimator}: variance / that of REINFORCE"] = log_t_interval(ratios)
        for at, step in enumerate(_steps(options)):
            for panel, interval in ((COST, t_interval(costs[:, at])), (NOISE, log_t_interval(variances[:, at]))):
                place = {"panel": panel, "series": estimator, "x": step}
                points.append({**place, **dict(zip(("value", "low", "high"), interval[:3], strict=True))})
    return Measured(quantities, points, ("step", "expected cost left, of 1; variance"), (False, True))


def _curve(cell: Cell, options: Settings) -> Curve:
    """One run, in double precision; measuring leaves it undisturbed."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    seed = stream_seed(cell.seed, "probe", estimator=cell.estimator.label)
    curve: Curve = []
    with seeded(noise_seed(cell), torch.device("cpu")):
        state = State(cell, torch.device("cpu"))
        state.problem.double()
        state.estimator.double()
        for step in _steps(options):
            take_steps(state, step - state.step)
            theta = float(state.problem.encode(x)["logits"].detach().sigmoid())
            draws = parameter_draws(state.problem, state.estimator, x, options.replicates, seed)["logits"]
            variance = SampleVariance.of(draws.flatten()).value
            reference = bernoulli_toy.variance("reinforce", theta, options.target)
            curve.append((2 * theta, variance, reference))  # the expected cost is linear in theta
    return curve


def _steps(options: Settings) -> list[int]:
    return [round(options.steps * at / options.points) for at in range(options.points + 1)]
