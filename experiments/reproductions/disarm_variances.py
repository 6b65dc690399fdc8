"""Gradient variance of several estimators at the same checkpoints of one run, which none of them trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from estbench.estimators import ESTIMATORS, create_for
from estbench.experiment import Cell, Experiment, make_plan, stream_seed
from estbench.measure import probe
from estbench.options import BaseOptions, validated
from estbench.problems import PROBLEMS
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import log_t_interval, paired_ratio
from estbench.training import evaluation_batch, start_run, take_steps

RATIO = Panel(label="ratio of the variances", log=True, level=1.0, level_name="equal variances")


class DisarmVariancesOptions(BaseOptions):
    """``guide`` is the estimator that trains; ``estimators`` are measured, and have no parts that learn."""

    problem: str
    guide: str
    estimators: tuple[str, ...] = Field(min_length=2)
    checkpoints: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    batch_size: Annotated[int, Field(ge=1)] = 50
    learning_rate: float = 1e-3
    seeds: Annotated[int, Field(ge=3)] = 5
    replicates: int = Field(default=100, ge=3)


@study(DisarmVariancesOptions)
def disarm_variances(options: DisarmVariancesOptions) -> StudyResult:
    """Measure the variance of the encoder's minibatch gradient at checkpoints (steps) of the guide's run.

    The minibatch is the same for all, drawn once per seed. Quantities: the ratio of the last estimator's variance to
    each other's, at each checkpoint; pairs are seeds.
    """
    experiment = {
        "estimators": [options.guide],
        "problems": [options.problem],
        "seeds": options.seeds,
        "training": {
            "steps": max(1, *options.checkpoints),
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
        },
    }
    plan = make_plan(validated(Experiment, experiment, "the guide's run"), ESTIMATORS.resolve, PROBLEMS.resolve)
    variances: dict[tuple[str, int], list[float]] = {}
    for cell in plan:
        for estimator, step, variance in _measure(cell, options):
            variances.setdefault((estimator, step), []).append(variance)
    *others, last = options.estimators
    points = [
        figure_point("encoder", estimator, step, log_t_interval(values))
        for (estimator, step), values in variances.items()
    ]
    quantities = {}
    for other in others:
        for step in options.checkpoints:
            ratio = paired_ratio(variances[last, step], variances[other, step])
            quantities[f"{last} / {other}, step {step}"] = ratio
            points.append(figure_point("ratio", f"{last} / {other}", step, ratio))
    axes = (f"step of the run of {options.guide}", "variance of the minibatch gradient")
    return StudyResult(quantities, points, axes, (False, True), {"ratio": RATIO})


def _measure(cell: Cell, options: DisarmVariancesOptions) -> Iterator[tuple[str, int, float]]:
    """Yield estimator, step and variance, at every checkpoint of one run."""
    with start_run(cell) as run:
        x = evaluation_batch(run.problem, "train", options.batch_size, stream_seed(cell.seed, "probe"))
        for step in sorted(options.checkpoints):
            take_steps(run, step - run.step)
            for name in options.estimators:
                seed = stream_seed(cell.seed, "probe", estimator=name, step=step)
                moments = probe(run.problem, create_for(name, run.problem), x, options.replicates, seed)
                yield name, step, moments.value("weights", "encoder", "variance")
