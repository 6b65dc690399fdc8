"""Bounds against samples seen: identical models that differ in nothing but the estimator."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
from pydantic import Field

import estbench
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import paired_difference, t_interval


class ReparamVsScoreFunctionOptions(BaseOptions):
    """``estimators`` are variants, the reference first; ``every`` is the number of steps between evaluations."""

    problem: str
    estimators: tuple[str, ...] = Field(min_length=2)
    steps: Annotated[int, Field(ge=1)]
    every: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 100
    learning_rate: float = 1e-3
    seeds: Annotated[int, Field(ge=3)] = 5
    examples: Annotated[int, Field(ge=1)] = 500


@study(ReparamVsScoreFunctionOptions)
def reparam_vs_score_function(options: ReparamVsScoreFunctionOptions) -> StudyResult:
    """Train, and compare the test ELBO of the first estimator, the reference, with each other's.

    Quantities, in nats per test image with t intervals over seeds: the reference's lead at the end, and its smallest
    lead at any evaluation after the start; and the gain of each estimator from the start to the end.
    """
    curves = _train(options)  # by estimator: steps down, seeds across
    reference, *others = curves
    quantities = {
        f"{estimator}: gain": paired_difference(curve.iloc[-1], curve.iloc[0]) for estimator, curve in curves.items()
    }
    for other in others:
        leads = [paired_difference(curves[reference].loc[step], curves[other].loc[step]) for step in _later(curves)]
        quantities[f"{reference} - {other}: at the end"] = leads[-1]
        quantities[f"{reference} - {other}: smallest lead"] = min(leads, key=lambda lead: lead.low)
    points = [
        figure_point("test images", estimator, step * options.batch_size, t_interval(curve.loc[step]))
        for estimator, curve in curves.items()
        for step in curve.index.tolist()
    ]
    return StudyResult(quantities, points, ("training samples seen", "ELBO in nats per image"))


def _train(options: ReparamVsScoreFunctionOptions) -> dict[str, pd.DataFrame]:
    """Return the test ELBO of every estimator; raise ``RuntimeError`` if a run did not come to its last step."""
    experiment = {
        "estimators": options.estimators,
        "problems": [options.problem],
        "seeds": options.seeds,
        "training": {
            "steps": options.steps,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
        },
        "evaluation": {"every": options.every, "examples": options.examples},
        "probe": {"replicates": 0},
        "throughput": {"rounds": 0},
    }
    with TemporaryDirectory() as folder:
        results = estbench.run(experiment, folder, device="cpu")
        cells, curves = results.cells, results.curves
    stopped = cells[cells["status"] != "done"]
    if len(stopped):
        raise RuntimeError("; ".join(f"{row.folder}: {row.status}, {row.stop_reason}" for row in stopped.itertuples()))
    elbos = curves[(curves["split"] == "test") & (curves["metric"] == "elbo")]
    return {
        str(estimator): elbos[elbos["estimator"] == estimator].pivot_table("value", "step", "seed")
        for estimator in cells["estimator"].unique()
    }


def _later(curves: dict[str, pd.DataFrame]) -> list[int]:
    """Return the evaluations after the start."""
    steps: list[int] = next(iter(curves.values())).index.tolist()
    return steps[1:]
