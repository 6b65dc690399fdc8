"""Single gradient estimates on toys: their sample variances, with standard errors, beside closed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estbench import estimators, problems
from estbench.experiment import stream_seed
from estbench.measure import draw_gradients
from estbench.reproduce import figure_point
from estbench.stats import Interval, normal_quantile, point_interval

Place = tuple[str, float, str]  # a panel of the figure, a place on its axis, an estimator


def draw_on_toy(toy: str, estimator: str, replicates: int, **axes: Any) -> dict[str, Tensor]:
    """Draw independent gradients of one copy of a toy, (R,) for each parameter, in double precision.

    ``axes`` make the seed of these draws, together with the estimator's name.
    """
    x = torch.zeros(1, 1, dtype=torch.float64)
    seed = stream_seed(0, "probe", estimator=estimator, **axes)
    draws = draw_gradients(problems.create(toy).double(), estimators.create(estimator), x, replicates, seed)
    return {name: gradient[:, 0, 0] for name, gradient in draws.items()}


@dataclass(frozen=True)
class SampleVariance:
    """The variance of R draws of a number, with the standard error that their fourth moment gives it."""

    value: float
    error: float
    n: int

    @classmethod
    def from_draws(cls, draws: Tensor) -> SampleVariance:
        """Compute it from draws of shape (R,)."""
        deviations = draws.double() - draws.double().mean()
        value = float(deviations.square().sum() / (len(draws) - 1))
        fourth = float(deviations.pow(4).mean())
        return cls(value, math.sqrt(max(0.0, fourth - value**2) / len(draws)), len(draws))

    @property
    def interval(self) -> Interval:
        """The normal interval that the standard error gives."""
        half = normal_quantile() * self.error
        return Interval(self.value, max(0.0, self.value - half), self.value + half, self.n)

    def z(self, expected: float) -> float:
        """Distance from a value in standard errors; in units of rounding if the draws do not vary."""
        return (self.value - expected) / max(self.error, 1e-12 * max(1.0, abs(expected)))

    def ratio(self, other: SampleVariance) -> Interval:
        """Ratio to the variance of other, independent draws, by the delta method on the log scale."""
        if not self.value or not other.value:
            return Interval(math.nan, math.nan, math.nan, min(self.n, other.n))
        half = normal_quantile() * math.hypot(self.error / self.value, other.error / other.value)
        value = self.value / other.value
        return Interval(value, value * math.exp(-half), value * math.exp(half), min(self.n, other.n))


def largest_z(measured: Mapping[Place, SampleVariance], known: Mapping[Place, float]) -> Interval:
    """Return the largest |z| of all measured variances against their closed forms."""
    return point_interval(max(abs(variance.z(known[place])) for place, variance in measured.items()), len(measured))


def figure_points(measured: Mapping[Place, SampleVariance], known: Mapping[Place, float]) -> list[dict[str, Any]]:
    """Return the points of the card's figure: every measured variance, over its closed form."""
    return [figure_point(*_axes(place), variance.interval, known[place]) for place, variance in measured.items()]


def _axes(place: Place) -> tuple[str, str, float]:
    panel, x, estimator = place
    return panel, estimator, x
