r"""Variances of measure-valued gradients with coupled and with independent phases, against closed forms.

For the cost (z - k)^2 of a normal z, with d = loc - k and s the scale, of single estimates:

    coupled       d/d loc   (16/pi - 4) d^2                d/d scale   4 d^2 + 4 s^2
    independent             (8/pi - 2) d^2 + 4 s^2 / pi                16 d^2 + 8 s^2

W ~ Weibull(sqrt 2, 2) has the moments E W = sqrt(pi/2), E W^2 = 2, E W^3 = 3 sqrt(pi/2), E W^4 = 8. So for independent
phases Var (d + s W)^2 + Var (d - s W)^2 = 8 d^2 s^2 (2 - pi/2) + 8 s^4, over 2 pi s^2. The Maxwell M has E M^2 = 3 and
E M^4 = 15, the normal N 1 and 3: Var (d + s M)^2 + Var (d + s N)^2 = 16 d^2 s^2 + 8 s^4, over s^2.

For a count of rate r, with c = r - k and d/d log r:

    coupled       r^2 4 r
    independent   r^2 (V(c + 1) + V(c)),   V(c) = Var (z - r + c)^2 = r + 2 r^2 + 4 c r + 4 c^2 r
"""

from __future__ import annotations

import math

from pydantic import Field

from _single_estimates import Place, SampleVariance, draw_on_toy, figure_points, largest_z
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, study
from estbench.stats import Interval

COUPLED, INDEPENDENT = "measure-valued", "measure-valued[coupling=false]"
BY_SCALE, BY_LOC, BY_RATE = "d/d scale", "d/d loc", "d/d log rate"


class CouplingOptions(BaseOptions):
    """``k`` is the grid of the normal toy, ``rates`` that of the counts, whose cost has ``count_k``."""

    k: tuple[float, ...] = Field(min_length=1)
    rates: tuple[float, ...] = Field(min_length=1)
    loc: float = 1.0
    scale: float = 1.0
    count_k: float = 3.0
    replicates: int = Field(default=20_000, ge=100)


@study(CouplingOptions)
def measure_valued_coupling(options: CouplingOptions) -> StudyResult:
    """Measure the variances on ``gaussian_toy`` over k and on ``poisson_toy`` over rates.

    Quantities: the largest |z| against the closed forms; by parameter the ratio of the coupled variance to that of
    independent phases at each place, and the ``largest`` ratio, the one whose interval reaches highest.
    """
    measured: dict[Place, SampleVariance] = {}
    known: dict[Place, float] = {}
    s = options.scale
    for variant in (COUPLED, INDEPENDENT):
        for k in options.k:
            toy = f"gaussian_toy[k={k!r},loc={options.loc!r},scale={s!r}]"
            gradients = draw_on_toy(toy, variant, options.replicates, k=k)
            of_loc, of_scale = normal_variances(variant, options.loc - k, s)
            for name, drawn, expected in (
                (BY_LOC, gradients["loc"], of_loc),
                # The gradient with respect to log s is s times that with respect to s.
                (BY_SCALE, gradients["log_scale"] / s, of_scale),
            ):
                measured[name, k, variant] = SampleVariance.from_draws(drawn)
                known[name, k, variant] = expected
        for rate in options.rates:
            toy = f"poisson_toy[k={options.count_k!r},rate={rate!r}]"
            drawn = draw_on_toy(toy, variant, options.replicates, rate=rate)["log_rate"]
            measured[BY_RATE, rate, variant] = SampleVariance.from_draws(drawn)
            known[BY_RATE, rate, variant] = count_variance(variant, rate, options.count_k)
    quantities = {"largest |z|": largest_z(measured, known)}
    for name, symbol, grid in (
        (BY_SCALE, "k", options.k),
        (BY_LOC, "k", options.k),
        (BY_RATE, "rate", options.rates),
    ):
        ratios: dict[float, Interval] = {
            place: measured[name, place, COUPLED].ratio(measured[name, place, INDEPENDENT]) for place in grid
        }
        quantities |= {f"{name}, {symbol} = {place:g}: ratio": ratio for place, ratio in ratios.items()}
        quantities[f"{name}: largest ratio"] = max(ratios.values(), key=lambda ratio: ratio.high)
    axes = ("k, or the rate", "variance of one estimate")
    return StudyResult(quantities, figure_points(measured, known), axes, (False, True))


def normal_variances(variant: str, d: float, s: float) -> tuple[float, float]:
    """Return the variances with respect to loc and scale."""
    if variant == COUPLED:
        return (16 / math.pi - 4) * d**2, 4 * d**2 + 4 * s**2
    return (8 / math.pi - 2) * d**2 + 4 / math.pi * s**2, 16 * d**2 + 8 * s**2


def count_variance(variant: str, rate: float, k: float) -> float:
    """Return the variance with respect to the logarithm of the rate."""
    if variant == COUPLED:
        return 4 * rate**3
    apart = [rate + 2 * rate**2 + 4 * c * rate + 4 * c**2 * rate for c in (rate + 1 - k, rate - k)]
    return rate**2 * sum(apart)
