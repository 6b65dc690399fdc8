"""Variances of single estimates on ``gaussian_toy`` along a grid of k, against their closed forms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from _single_estimates import Place, SampleVariance, draw_on_toy, figure_points, largest_z
from estbench.options import BaseOptions
from estbench.problems import gaussian_toy_variance
from estbench.reproduce import StudyResult, study
from estbench.stats import Interval

PARAMETERS: tuple[Literal["loc", "scale"], ...] = ("loc", "scale")


class GaussianVariancesOptions(BaseOptions):
    """``k`` is the grid of each cost; ``estimators`` are variants, each with the name of its closed form."""

    k: dict[Literal["quadratic", "exponential", "cosine"], tuple[float, ...]]
    estimators: dict[str, Literal["score-function", "pathwise", "measure-valued"]]
    loc: float = 1.0
    scale: float = 1.0
    replicates: int = Field(default=20_000, ge=100)


@study(GaussianVariancesOptions)
def gaussian_variances(options: GaussianVariancesOptions) -> StudyResult:
    """Measure the variance of d/dloc and d/dscale on ``gaussian_toy`` over k.

    Quantities: the largest |z| against the closed forms; the ratio of the first estimator to the second at the ends of
    the cosine's grid, and the k between which it crosses one.
    """
    measured: dict[Place, SampleVariance] = {}
    known: dict[Place, float] = {}
    for cost, grid in options.k.items():
        for k in grid:
            toy = f"gaussian_toy[cost={cost},k={k!r},loc={options.loc!r},scale={options.scale!r}]"
            for variant, form in options.estimators.items():
                gradients = draw_on_toy(toy, variant, options.replicates, cost=cost, k=k)
                # The gradient with respect to log s is s times that with respect to s.
                by_parameter = {"loc": gradients["loc"], "scale": gradients["log_scale"] / options.scale}
                for parameter in PARAMETERS:
                    place = (f"{cost}, d/d{parameter}", k, variant)
                    measured[place] = SampleVariance.from_draws(by_parameter[parameter])
                    known[place] = gaussian_toy_variance(cost, form, parameter, options.loc, options.scale, k)
    quantities = {"largest |z|": largest_z(measured, known)}
    first, second = list(options.estimators)[:2]
    grid = options.k.get("cosine", ())
    ratios = {k: measured["cosine, d/dloc", k, first].ratio(measured["cosine, d/dloc", k, second]) for k in grid}
    for k in (grid[0], grid[-1]) if grid else ():
        quantities[f"cosine, k = {k:g}: {first} / {second}"] = ratios[k]
    if grid:
        quantities[f"cosine: k where {first} becomes the noisier"] = find_crossing(ratios)
    return StudyResult(quantities, figure_points(measured, known), ("k", "variance of one estimate"), (True, True))


def find_crossing(ratios: dict[float, Interval]) -> Interval:
    """Return the span from the last k with a ratio surely below one to the first with a ratio surely above it."""
    below = max((k for k, ratio in ratios.items() if ratio.high < 1), default=min(ratios))
    above = min((k for k, ratio in ratios.items() if ratio.low > 1 and k > below), default=max(ratios))
    return Interval((below + above) / 2, below, above, len(ratios))
