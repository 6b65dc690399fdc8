"""Bias and variance of relaxed gradients against temperature, where the exact gradient is known by enumeration."""

from __future__ import annotations

import itertools
import math

import torch
from pydantic import Field, field_validator
from torch import Tensor

from estbench.certify.problems import SMALL
from estbench.certify.problems.base import SmallProblem
from estbench.certify.sampling import draw_gradients
from estbench.errors import EstbenchError, did_you_mean
from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.options import BaseOptions
from estbench.randomness import seeded
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval, jackknife_interval
from estbench.variant import Variant

CHUNK = 20_000  # replicates
KNOWN = {setting.name: setting for setting in SMALL}


class Settings(BaseOptions):
    """``setting`` is one of conformance, by name; every estimator has an option ``temperature``."""

    setting: str
    estimators: tuple[str, ...]
    temperatures: tuple[float, ...] = Field(min_length=2)
    replicates: int = Field(default=50_000, ge=100)

    @field_validator("setting")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in KNOWN:
            raise EstbenchError(f"no setting '{value}'; {did_you_mean(value, KNOWN)}")
        return value

    @field_validator("temperatures")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(value)):
            raise ValueError("temperatures go up")
        return value


@measurement("relaxation", Settings)
def relaxation(options: Settings) -> Measured:
    """Squared bias and variance of the gradient with respect to the logits, summed over them, at each temperature.

    The squared bias |E g - exact|^2 is a U-statistic of the draws, so no noise is taken for bias. Quantities, by
    estimator: for bias and for variance the ratio of one temperature to the next lower one. ``largest``: where the
    interval reaches highest; ``smallest``: where it reaches lowest. If that one lies on one side of a bound, so do
    all, and at no loss of confidence. Different temperatures have draws of their own.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for name in options.estimators:
        found = [_moments(name, temperature, options) for temperature in options.temperatures]
        for statistic in ("squared bias", "variance"):
            values = [moments[statistic] for moments in found]
            ratios = [_ratio(high, low) for low, high in itertools.pairwise(values)]
            label = f"{name}: {statistic}, one temperature to the next lower"
            quantities[f"{label}, largest"] = max(ratios, key=lambda ratio: ratio.high)
            quantities[f"{label}, smallest"] = min(ratios, key=lambda ratio: ratio.low)
            points += [
                {"panel": statistic, "series": name, "x": temperature, **_ends(value)}
                for temperature, value in zip(options.temperatures, values, strict=True)
            ]
    return Measured(quantities, points, ("temperature", "of the gradient"), (True, True))


def _moments(name: str, temperature: float, options: Settings) -> dict[str, Interval]:
    setting: SmallProblem = KNOWN[options.setting]
    estimator = create_estimator(Variant(name, {"temperature": temperature})).eval()
    seed = stream_seed(0, "probe", estimator=name, temperature=str(temperature))
    with seeded(seed, torch.device("cpu")):
        counts = [min(CHUNK, options.replicates - start) for start in range(0, options.replicates, CHUNK)]
        draws = torch.cat([draw_gradients(estimator, setting, count)["logits"] for count in counts])
    return squared_mean_and_variance((draws - setting.exact_gradient()["logits"]).flatten(1))


def squared_mean_and_variance(errors: Tensor) -> dict[str, Interval]:
    """Of independent draws, (R, P): |E e|^2 without the noise's share, and tr Cov(e), with jackknife intervals.

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


def _ends(interval: Interval) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), interval[:3], strict=True))


def _ratio(above: Interval, below: Interval) -> Interval:
    """Of two independent estimates, by the delta method."""
    value = above.value / below.value
    relative = [(each.high - each.low) / 2 / each.value for each in (above, below)]
    half = abs(value) * math.hypot(*relative)
    return Interval(value, value - half, value + half, min(above.n, below.n))
