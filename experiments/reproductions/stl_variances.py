r"""Variances of pathwise gradients with and without the score of q, as q nears a posterior that it can equal.

The posterior is N(m, s^2), and q = N(m + d s, r s^2). With standard normal noise e, a single sample's gradient of
log p(z|x) - log q(z) is

                  d/dloc                              d/dlog_scale
    reparam       -(d + sqrt(r) e) / s                1 - d sqrt(r) e - r e^2
    stl           -(d + (r - 1) e / sqrt(r)) / s      -d sqrt(r) e - (r - 1) e^2

where stl leaves out the score, e / (sqrt(r) s) and e^2 - 1, whose mean is zero. Var e = 1 and Var e^2 = 2, with no
covariance, give the variances.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from _single_estimates import Place, SampleVariance, figure_points, largest_z
from estbench import estimators, problems
from estbench.experiment import stream_seed
from estbench.measure import draw_gradients
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, study
from estbench.stats import Interval, point_interval

COMPARED = ("reparam", "stl")
PARAMETERS = ("loc", "log_scale")


class StlVariancesOptions(BaseOptions):
    """``ratios`` r are those of q's variance to the posterior's, ``offsets`` d of q's mean in units of s."""

    ratios: tuple[float, ...] = Field(min_length=1)
    offsets: tuple[float, ...] = (0.0,)
    replicates: int = Field(default=50_000, ge=100)


@study(StlVariancesOptions)
def stl_variances(options: StlVariancesOptions) -> StudyResult:
    """Measure the variance of single estimates of ``reparam`` and ``stl`` on ``linear_gaussian`` in one dimension.

    Quantities: the largest |z| against the closed forms; the larger of stl's two variances at the posterior; by
    parameter and offset, the ratio of stl's variance to reparam's at both ends of the grid, and the r between which
    it falls below one.
    """
    measured: dict[Place, SampleVariance] = {}
    known: dict[Place, float] = {}
    for offset in options.offsets:
        for ratio in options.ratios:
            for name in COMPARED:
                for parameter, draws in draw_around_posterior(name, offset, ratio, options.replicates).items():
                    place = (_panel(parameter, offset), ratio, name)
                    measured[place] = SampleVariance.from_draws(draws)
                    known[place] = variance(parameter, offset, ratio, name)
    at_posterior = draw_around_posterior("stl", 0.0, 1.0, options.replicates)
    largest = max(SampleVariance.from_draws(draws).value for draws in at_posterior.values())
    quantities = {
        "largest |z|": largest_z(measured, known),
        "stl at the posterior: variance": point_interval(largest, options.replicates),
    }
    grid = sorted(options.ratios)
    for parameter in PARAMETERS:
        for offset in options.offsets:
            panel = _panel(parameter, offset)
            ratios = {ratio: measured[panel, ratio, "stl"].ratio(measured[panel, ratio, "reparam"]) for ratio in grid}
            for ratio in (grid[0], grid[-1]):
                quantities[f"{panel}, r = {ratio:g}: stl / reparam"] = ratios[ratio]
            quantities[f"{panel}: r where stl becomes the less noisy"] = find_crossing(ratios)
    return StudyResult(quantities, figure_points(measured, known), ("r", "variance of one estimate"), (True, True))


def variance(parameter: str, offset: float, ratio: float, estimator: str, scale: float = math.sqrt(0.5)) -> float:
    """Return the closed form, with s = ``scale``."""
    noise = ratio if estimator == "reparam" else ratio - 1
    if parameter == "loc":
        return noise**2 / (ratio * scale**2)
    return offset**2 * ratio + 2 * noise**2


def draw_around_posterior(estimator: str, offset: float, ratio: float, replicates: int) -> dict[str, Tensor]:
    """Draw independent gradients, (R,) for each parameter, at q = N(m + d s, r s^2)."""
    problem: Any = problems.create("linear_gaussian[dimensions=1,perturbation=0.0]").double()
    x = torch.from_numpy(problem.data.train[:1]).double()
    posterior = problem.posterior(x)
    q = {
        "loc": posterior["loc"] + offset * posterior["log_scale"].exp(),
        "log_scale": posterior["log_scale"] + 0.5 * math.log(ratio),
    }
    seed = stream_seed(0, "probe", estimator=estimator, offset=str(offset), ratio=str(ratio))
    draws = draw_gradients(problem, estimators.create(estimator), x, replicates, seed, params=q)
    return {name: gradient[:, 0, 0] for name, gradient in draws.items()}


def find_crossing(ratios: dict[float, Interval]) -> Interval:
    """Return the span from the last r with a ratio surely above one to the first with a ratio surely below it."""
    above = max((r for r, ratio in ratios.items() if ratio.low > 1), default=min(ratios))
    below = min((r for r, ratio in ratios.items() if ratio.high < 1 and r > above), default=max(ratios))
    return Interval((above + below) / 2, above, below, len(ratios))


def _panel(parameter: str, offset: float) -> str:
    return f"d/d{parameter}, d = {offset:g}"
