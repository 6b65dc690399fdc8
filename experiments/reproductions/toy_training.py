"""A toy bit on its way to zero, the cheaper of its values: the cost that is left, and the noise of the gradient."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from _single_estimates import SampleVariance
from estbench.estimators import ESTIMATORS
from estbench.experiment import Cell, Experiment, make_plan, stream_seed
from estbench.measure import draw_gradients
from estbench.options import BaseOptions, validated
from estbench.problems import PROBLEMS, bernoulli_toy_variance
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, log_t_interval, t_interval
from estbench.training import start_run, take_steps

PANELS = {
    "expected cost left": Panel(label="share of the cost at the start", log=True),
    "noise of one estimate": Panel(
        label="variance / REINFORCE's", log=True, level=1.0, level_name="REINFORCE at the same theta"
    ),
}
COST, NOISE = PANELS
Curve = list[tuple[float, float, float]]  # at each checkpoint: cost left, variance, REINFORCE's variance


class ToyTrainingOptions(BaseOptions):
    """``estimators`` are variants; ``points`` checkpoints are evenly spaced over the steps, beside the start."""

    target: float = Field(ge=0, lt=0.5)
    estimators: tuple[str, ...]
    steps: Annotated[int, Field(ge=1)]
    points: Annotated[int, Field(ge=1)] = 10
    learning_rate: float = 0.01
    seeds: Annotated[int, Field(ge=3)] = 5
    replicates: int = Field(default=1000, ge=100)


@study(ToyTrainingOptions)
def toy_training(options: ToyTrainingOptions) -> StudyResult:
    """Train the logit of ``bernoulli_toy`` with each estimator, one estimate a step, from a fair coin.

    Quantities of each estimator, over seeds: the expected cost left at the end (of the cost between the start and the
    optimum, so it starts from 1); and its variance relative to the closed form for REINFORCE *at the same theta*,
    geometric mean over the checkpoints after the start. Different estimators are at different theta after as many
    steps, so their plain variances do not compare.
    """
    experiment = {
        "estimators": options.estimators,
        "problems": [f"bernoulli_toy[target={options.target!r}]"],
        "seeds": options.seeds,
        "training": {"steps": options.steps, "batch_size": 1, "learning_rate": options.learning_rate},
    }
    plan = make_plan(validated(Experiment, experiment, "the runs"), ESTIMATORS.resolve, PROBLEMS.resolve)
    curves: dict[str, list[Curve]] = {}
    for cell in plan:
        curves.setdefault(cell.estimator.label, []).append(_train(cell, options))
    quantities: dict[str, Interval] = {}
    points = []
    for estimator, runs in curves.items():
        costs, variances, references = np.moveaxis(np.array(runs), -1, 0)  # each (seeds, 1 + points)
        quantities[f"{estimator}: cost left"] = t_interval(costs[:, -1])
        ratios = variances / references
        with np.errstate(divide="ignore"):  # the geometric mean with a zero is zero
            means = np.exp(np.log(ratios[:, 1:]).mean(1))
        quantities[f"{estimator}: variance / that of REINFORCE"] = log_t_interval(means)
        for index, step in enumerate(_steps(options)):
            points.append(figure_point(COST, estimator, step, t_interval(costs[:, index])))
            points.append(figure_point(NOISE, estimator, step, log_t_interval(ratios[:, index])))
    return StudyResult(quantities, points, axes=("step", ""), panels=PANELS)


def _train(cell: Cell, options: ToyTrainingOptions) -> Curve:
    """Return the curve of one run in double precision; measuring leaves it undisturbed."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    seed = stream_seed(cell.seed, "probe", estimator=cell.estimator.label)
    curve: Curve = []
    with start_run(cell) as run:
        run.problem.double()
        run.estimator.double()
        for step in _steps(options):
            take_steps(run, step - run.step)
            theta = float(run.problem.encode(x)["logits"].detach().sigmoid())
            draws = draw_gradients(run.problem, run.estimator, x, options.replicates, seed)["logits"]
            variance = SampleVariance.from_draws(draws.flatten()).value
            reference = bernoulli_toy_variance("reinforce", theta, options.target)
            curve.append((2 * theta, variance, reference))  # the expected cost is linear in theta
    return curve


def _steps(options: ToyTrainingOptions) -> list[int]:
    """Return the steps of the checkpoints, the start first."""
    return [round(options.steps * point / options.points) for point in range(options.points + 1)]
