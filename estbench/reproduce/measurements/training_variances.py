"""Variances of several estimators at the same places of a training run, over seeds."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.problems import create as create_problem
from estbench.randomness import seeded
from estbench.reproduce.draws import parameter_draws
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval, log_t_interval, paired_ratio

# Rows (replicates x runs x evaluations) of one call: each row of a regression holds all of its data.
ROWS = 3000
Parameters = dict[str, Tensor]  # (runs, D) each


class Settings(BaseOptions):
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


@measurement("training_variances", Settings)
def training_variances(options: Settings) -> Measured:
    """Variance of single estimates, summed over the coordinates of a parameter, where q belongs to all the data.

    Every run has parameters and minibatches of its own, and is a row of one batch. Variances are taken on the test
    split, which holds all the data. Quantities, by parameter and pair: the ratio of two variances after each number of
    steps, with a t interval over runs of its logarithm; and the ``largest``, the one whose interval reaches highest.
    If that one lies below a bound, then so do all, and at no loss of confidence.
    """
    problem = create_problem(options.problem).double()
    found = {step: _variances(options, problem, params, step) for step, params in _training(options, problem)}
    names = next(iter(found.values()))[options.estimators[0]].keys()
    quantities: dict[str, Interval] = {}
    for first, second in options.compare:
        for name in names:
            label = f"{name}: {first} / {second}"
            ratios = {step: paired_ratio(at[first][name], at[second][name]) for step, at in found.items()}
            quantities |= {f"{label}, step {step}": ratio for step, ratio in ratios.items()}
            quantities[f"{label}, largest"] = max(ratios.values(), key=lambda ratio: ratio.high)
    points = [
        {
            "panel": f"d/d {name}",
            "series": estimator,
            "x": step,
            **dict(zip(("value", "low", "high"), log_t_interval(values)[:3], strict=True)),
        }
        for step, at in found.items()
        for estimator, by_name in at.items()
        for name, values in by_name.items()
    ]
    return Measured(quantities, points, ("training steps", "variance of one estimate"), (True, True))


def _training(options: Settings, problem: Problem) -> list[tuple[int, Parameters]]:
    """Where the runs are after each number of steps: gradient ascent, its rate falling along a quarter of a cosine."""
    estimator, last = create_estimator(options.trained_with).eval(), max(options.steps)
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


def _variances(options: Settings, problem: Problem, params: Parameters, step: int) -> dict[str, dict[str, list[float]]]:
    """By estimator and parameter, the variances of the runs."""
    x = _everything(problem, options.seeds)
    found: dict[str, dict[str, list[float]]] = {}
    for variant in options.estimators:
        arguments: dict[str, Any] = {"seed": stream_seed(0, "probe", estimator=variant, step=step), "rows": ROWS}
        draws = parameter_draws(problem, create_estimator(variant), x, options.replicates, params=params, **arguments)
        found[variant] = {name: gradients.var(0).sum(-1).tolist() for name, gradients in draws.items()}
    return found


def _everything(problem: Problem, count: int) -> Tensor:
    """All the data, once for each run."""
    x = problem.observe(torch.from_numpy(problem.data.test[:1]), torch.Generator().manual_seed(0))
    return x.repeat(count, 1)
