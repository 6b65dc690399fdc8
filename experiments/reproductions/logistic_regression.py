"""Variances of several estimators at the same places of a training run, over seeds."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from estbench import estimators, problems
from estbench.experiment import stream_seed
from estbench.measure import draw_gradients
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, log_t_interval, paired_ratio

# Rows (replicates x runs x evaluations) of one call: each row of a regression holds all of its data.
ROWS = 3000
RATIO = Panel(label="ratio of the variances", log=True, level=1.0, level_name="equal variances")
Parameters = dict[str, Tensor]  # (runs, D) each


class LogisticRegressionOptions(BaseOptions):
    """Protocol of the training, which ``trained_with`` decides, and what is compared on its way.

    ``steps`` are the places, counted in steps that were taken; the last is the length of the training.
    """

    problem: str
    trained_with: str = "reparam"
    draws: int = Field(default=50, ge=1, description="gradients that are averaged in a step")
    learning_rate: float = Field(default=1e-3, gt=0)
    steps: tuple[int, ...] = Field(min_length=1)
    seeds: int = Field(default=5, ge=3)
    replicates: int = Field(default=400, ge=100)
    estimators: tuple[str, ...]
    compare: tuple[tuple[str, str], ...]


@study(LogisticRegressionOptions)
def logistic_regression(options: LogisticRegressionOptions) -> StudyResult:
    """Measure the variance of single estimates, summed over the coordinates of a parameter; q belongs to all the data.

    Every run has parameters and minibatches of its own, and is a row of one batch. Variances are taken on the test
    split, which holds all the data. Quantities, by parameter and pair: the ratio of two variances after each number of
    steps, with a t interval over runs of its logarithm; and the ``largest``, the one whose interval reaches highest.
    If that one lies below a bound, then so do all, and at no loss of confidence.
    """
    problem = problems.create(options.problem).double()
    variances = {step: _measure(options, problem, params, step) for step, params in _train(options, problem)}
    names = next(iter(variances.values()))[options.estimators[0]].keys()
    quantities: dict[str, Interval] = {}
    for first, second in options.compare:
        for name in names:
            label = f"{name}: {first} / {second}"
            ratios = {step: paired_ratio(at[first][name], at[second][name]) for step, at in variances.items()}
            quantities |= {f"{label}, step {step}": ratio for step, ratio in ratios.items()}
            quantities[f"{label}, largest"] = max(ratios.values(), key=lambda ratio: ratio.high)
    points = [
        figure_point(f"d/d {name}", estimator, step, log_t_interval(values))
        for step, at in variances.items()
        for estimator, by_name in at.items()
        for name, values in by_name.items()
    ]
    panels = {}
    if len(options.compare) == 1:  # the ratios of several pairs would hide each other
        pair = " / ".join(*options.compare)
        panels = {f"ratio, d/d {name}": RATIO for name in names}
        points += [
            figure_point(f"ratio, d/d {name}", pair, step, quantities[f"{name}: {pair}, step {step}"])
            for name in names
            for step in variances
        ]
    return StudyResult(quantities, points, ("training steps", "variance of one estimate"), (True, True), panels)


def _train(options: LogisticRegressionOptions, problem: Problem) -> list[tuple[int, Parameters]]:
    """Return the parameters after each number of ascent steps, whose rate falls along a quarter of a cosine."""
    estimator, last = estimators.create(options.trained_with).eval(), max(options.steps)
    generator = torch.Generator().manual_seed(stream_seed(0, "data"))
    rows = torch.from_numpy(problem.data.train)
    params = {
        name: value.detach().clone() for name, value in problem.encode(_everything(problem, options.seeds)).items()
    }
    places: list[tuple[int, Parameters]] = []
    with seeded(stream_seed(0, "noise"), torch.device("cpu")):
        for step in range(last + 1):
            if step in options.steps:
                places.append((step, {name: value.clone() for name, value in params.items()}))
            chosen = torch.randint(len(rows), (options.seeds,), generator=generator)
            x = problem.observe(rows[chosen], generator)
            leaves = {name: value.repeat(options.draws, 1, 1).requires_grad_() for name, value in params.items()}
            surrogate = estimator(problem.objective(leaves, x)).sum()
            rate = options.learning_rate * math.cos(math.pi / 2 * step / last)
            for name, gradient in zip(leaves, torch.autograd.grad(surrogate, list(leaves.values())), strict=True):
                params[name] += rate * gradient.mean(0)
    return places


def _measure(
    options: LogisticRegressionOptions, problem: Problem, params: Parameters, step: int
) -> dict[str, dict[str, list[float]]]:
    """Return the variances of the runs, by estimator and parameter."""
    x = _everything(problem, options.seeds)
    variances: dict[str, dict[str, list[float]]] = {}
    for variant in options.estimators:
        estimator, seed = estimators.create(variant), stream_seed(0, "probe", estimator=variant, step=step)
        draws = draw_gradients(problem, estimator, x, options.replicates, seed, params=params, rows=ROWS)
        variances[variant] = {name: gradients.var(0).sum(-1).tolist() for name, gradients in draws.items()}
    return variances


def _everything(problem: Problem, count: int) -> Tensor:
    """Return all the data, once for each run."""
    x = problem.observe(torch.from_numpy(problem.data.test[:1]), torch.Generator().manual_seed(0))
    return x.repeat(count, 1)
