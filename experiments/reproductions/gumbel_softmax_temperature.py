"""Bias and variance of relaxed gradients against temperature, where the exact gradient is known by enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Literal

from pydantic import Field, field_validator
from torch import Tensor

from _small_problems import EXAMPLES, decoder, random_problem
from estbench import estimators
from estbench.experiment import stream_seed
from estbench.latents import CategoricalLatents
from estbench.measure import draw_gradients
from estbench.options import BaseOptions
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, jackknife_interval

CHUNK = 20_000  # replicates of one call
PANELS = {
    "squared bias": Panel(label="squared bias of the gradient", log=True),
    "variance": Panel(label="variance of one estimate", log=True),
}
PROBLEM = random_problem(CategoricalLatents(2, 3), decoder, 3064, analytic_kl=True)


class GumbelSoftmaxTemperatureOptions(BaseOptions):
    """Every estimator has an option ``temperature``, and takes one evaluation."""

    problem: Literal["categorical, decoder, analytic KL"]
    estimators: tuple[str, ...]
    temperatures: tuple[float, ...] = Field(min_length=2)
    replicates: int = Field(default=50_000, ge=100)

    @field_validator("temperatures")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(value)):
            raise ValueError("temperatures go up")
        return value


@study(GumbelSoftmaxTemperatureOptions)
def gumbel_softmax_temperature(options: GumbelSoftmaxTemperatureOptions) -> StudyResult:
    """Measure squared bias and variance of the gradient of the logits, summed over them, at each temperature.

    The squared bias |E g - exact|^2 is a U-statistic of the draws, so no noise is taken for bias. Quantities, by
    estimator: for bias and for variance the ratio of one temperature to the next lower one. ``largest``: the one whose
    interval reaches highest; ``smallest``: the one whose interval reaches lowest. If that one lies on one side of a
    bound, so do all, and at no loss of confidence. Different temperatures have draws of their own.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for name in options.estimators:
        moments = [_measure(name, temperature, options.replicates) for temperature in options.temperatures]
        for statistic in PANELS:
            values = [each[statistic] for each in moments]
            ratios = [_ratio(high, low) for low, high in itertools.pairwise(values)]
            label = f"{name}: {statistic}, one temperature to the next lower"
            quantities[f"{label}, largest"] = max(ratios, key=lambda ratio: ratio.high)
            quantities[f"{label}, smallest"] = min(ratios, key=lambda ratio: ratio.low)
            points += [
                figure_point(statistic, name, temperature, value)
                for temperature, value in zip(options.temperatures, values, strict=True)
            ]
    return StudyResult(quantities, points, ("temperature", ""), (True, True), PANELS)


def _measure(name: str, temperature: float, replicates: int) -> dict[str, Interval]:
    estimator = estimators.create(f"{name}[temperature={temperature!r}]")
    seed = stream_seed(0, "probe", estimator=name, temperature=str(temperature))
    draws = draw_gradients(PROBLEM, estimator, PROBLEM.x, replicates, seed, rows=CHUNK * EXAMPLES)
    return squared_mean_and_variance((draws["logits"] - PROBLEM.exact_gradient()["logits"]).flatten(1))


def squared_mean_and_variance(errors: Tensor) -> dict[str, Interval]:
    """Return |E e|^2 without the noise's share, and tr Cov(e), of independent draws (R, P), with jackknife intervals.

    With d_r = |e_r - mean|^2, leaving r out takes d_r R / (R - 1) from the sum of the squared deviations.
    """
    count, mean = len(errors), errors.mean(0)
    squares = (errors - mean).square().sum(1).numpy()
    along = ((errors - mean) @ mean).numpy()
    norm2, variance = float(mean @ mean), squares.sum() / (count - 1)
    left = (squares.sum() - squares * count / (count - 1)) / (count - 2)
    left_norm2 = norm2 - 2 * along / (count - 1) + squares / (count - 1) ** 2 - left / (count - 1)
    return {
        "squared bias": jackknife_interval(norm2 - variance / count, left_norm2),
        "variance": jackknife_interval(variance, left, log=True),
    }


def _ratio(above: Interval, below: Interval) -> Interval:
    """Return the ratio of two independent estimates, by the delta method."""
    value = above.value / below.value
    relative = [(each.high - each.low) / 2 / each.value for each in (above, below)]
    half = abs(value) * math.hypot(*relative)
    return Interval(value, value - half, value + half, min(above.n, below.n))
