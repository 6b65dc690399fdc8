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

from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.options import BaseOptions
from estbench.problems.linear_gaussian import LinearGaussian
from estbench.reproduce.draws import SampleVariance, exactly, parameter_draws
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval

COMPARED = ("reparam", "stl")
PARAMETERS = ("loc", "log_scale")
Place = tuple[str, float, float, str]  # parameter, offset d, ratio r, estimator


class Settings(BaseOptions):
    """``ratios`` r and ``offsets`` d, of q's variance and mean to the posterior's."""

    ratios: tuple[float, ...] = Field(min_length=1)
    offsets: tuple[float, ...] = (0.0,)
    replicates: int = Field(default=50_000, ge=100)


@measurement("stl_variances", Settings)
def stl_variances(options: Settings) -> Measured:
    """Variance of single estimates of ``reparam`` and ``stl`` on ``linear_gaussian`` in one dimension.

    Quantities: the largest |z| against the closed forms; the larger of stl's two variances at the posterior; by
    parameter and offset, the ratio of stl's variance to reparam's at both ends of the grid, and the r between which
    it falls below one.
    """
    problem = LinearGaussian(LinearGaussian.Options(dimensions=1, perturbation=0.0)).double()
    found: dict[Place, SampleVariance] = {}
    for offset in options.offsets:
        for ratio in options.ratios:
            for name in COMPARED:
                draws = gradients(problem, name, offset, ratio, options.replicates)
                found |= {(parameter, offset, ratio, name): SampleVariance.of(draws[parameter]) for parameter in draws}
    known = {place: variance(*place) for place in found}
    scores = [abs(measured.z(known[place])) for place, measured in found.items()]
    there = gradients(problem, "stl", 0.0, 1.0, options.replicates)
    left = max(SampleVariance.of(draws).value for draws in there.values())
    quantities = {
        "largest |z|": exactly(max(scores), len(scores)),
        "stl at the posterior: variance": exactly(left, options.replicates),
    }
    grid = sorted(options.ratios)
    for parameter in PARAMETERS:
        for offset in options.offsets:
            where = f"d/d{parameter}, d = {offset:g}"
            ratios = {
                ratio: found[parameter, offset, ratio, "stl"].ratio(found[parameter, offset, ratio, "reparam"])
                for ratio in grid
            }
            for ratio in (grid[0], grid[-1]):
                quantities[f"{where}, r = {ratio:g}: stl / reparam"] = ratios[ratio]
            quantities[f"{where}: r where stl becomes the less noisy"] = _crossing(ratios)
    points = [_point(place, measured.interval, known[place]) for place, measured in found.items()]
    return Measured(quantities, points, ("r", "variance of one estimate"), (True, True))


def variance(parameter: str, offset: float, ratio: float, estimator: str, scale: float = math.sqrt(0.5)) -> float:
    """The closed form, with s = ``scale``."""
    noise = ratio if estimator == "reparam" else ratio - 1
    if parameter == "loc":
        return noise**2 / (ratio * scale**2)
    return offset**2 * ratio + 2 * noise**2


def gradients(
    problem: LinearGaussian, estimator: str, offset: float, ratio: float, replicates: int
) -> dict[str, Tensor]:
    """Independent estimates by the name of the parameter, (R,) each, for q = N(m + d s, r s^2)."""
    x = torch.from_numpy(problem.data.train[:1]).double()
    posterior = problem.posterior(x)
    q = {
        "loc": posterior["loc"] + offset * posterior["log_scale"].exp(),
        "log_scale": posterior["log_scale"] + 0.5 * math.log(ratio),
    }
    seed = stream_seed(0, "probe", estimator=estimator, offset=str(offset), ratio=str(ratio))
    draws = parameter_draws(problem, create_estimator(estimator), x, replicates, seed, q)
    return {name: drawn[:, 0, 0] for name, drawn in draws.items()}


def _crossing(ratios: dict[float, Interval]) -> Interval:
    """Between the last r at which the ratio is surely above one and the first at which it is surely below."""
    above = max((r for r, ratio in ratios.items() if ratio.low > 1), default=min(ratios))
    below = min((r for r, ratio in ratios.items() if ratio.high < 1 and r > above), default=max(ratios))
    return Interval((above + below) / 2, above, below, len(ratios))


def _point(place: Place, measured: Interval, known: float) -> dict[str, Any]:
    parameter, offset, ratio, estimator = place
    value, low, high, _ = measured
    return {
        "panel": f"d/d{parameter}, d = {offset:g}",
        "series": estimator,
        "x": ratio,
        "value": value,
        "low": low,
        "high": high,
        "expected": known,
    }
