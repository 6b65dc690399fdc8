"""Variances of single estimates on one-dimensional toys, against their closed forms, along a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field

from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.options import BaseOptions
from estbench.problems import Problem, bernoulli_toy, gaussian_variances
from estbench.problems import create as create_problem
from estbench.reproduce.draws import SampleVariance, exactly, normal_quantile, parameter_draws
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval
from estbench.variant import Variant

PARAMETERS: tuple[Literal["loc", "scale"], ...] = ("loc", "scale")
Draws = dict[tuple[str, float, str], SampleVariance]  # by panel, place on the grid, and estimator


class GaussianSettings(BaseOptions):
    """``k`` is the grid by cost; estimators are variants, with the closed form that is theirs."""

    k: dict[Literal["quadratic", "exponential", "cosine"], tuple[float, ...]]
    estimators: dict[str, Literal["score-function", "pathwise", "measure-valued"]]
    loc: float = 1.0
    scale: float = 1.0
    replicates: int = Field(default=20_000, ge=100)


@measurement("gaussian_toy_variances", GaussianSettings)
def gaussian(options: GaussianSettings) -> Measured:
    """Variance of d/dloc and d/dscale on ``gaussian_toy`` over k.

    Quantities: the largest |z| against the closed forms; the ratio of the first estimator to the second at the ends of
    the cosine's grid, and the k between which it crosses one.
    """
    found: Draws = {}
    known: dict[tuple[str, float, str], float] = {}
    for cost, grid in options.k.items():
        for k in grid:
            problem = _double("gaussian_toy", {"cost": cost, "k": k, "loc": options.loc, "scale": options.scale})
            for variant, form in options.estimators.items():
                gradients = _gradients(problem, variant, options.replicates, cost=cost, k=k)
                # The gradient with respect to log s is s times that with respect to s.
                by_parameter = {"loc": gradients["loc"], "scale": gradients["log_scale"] / options.scale}
                for parameter in PARAMETERS:
                    at = (f"{cost}, d/d{parameter}", k, variant)
                    found[at] = SampleVariance.of(by_parameter[parameter])
                    known[at] = gaussian_variances.variance(cost, form, parameter, options.loc, options.scale, k)
    quantities = {"largest |z|": _largest_z(found, known)}
    first, second = list(options.estimators)[:2]
    grid = options.k.get("cosine", ())
    ratios = {k: found["cosine, d/dloc", k, first].ratio(found["cosine, d/dloc", k, second]) for k in grid}
    for k in (grid[0], grid[-1]) if grid else ():
        quantities[f"cosine, k = {k:g}: {first} / {second}"] = ratios[k]
    if grid:
        quantities[f"cosine: k where {first} becomes the noisier"] = _crossing(ratios)
    return Measured(quantities, _points(found, known), ("k", "variance of one estimate"), (True, True))


class BernoulliSettings(BaseOptions):
    """``theta`` is the grid; estimators are variants, with the closed form that is theirs."""

    theta: tuple[float, ...]
    targets: tuple[float, ...]
    estimators: dict[str, Literal["reinforce", "rloo", "arm", "disarm"]]
    replicates: int = Field(default=20_000, ge=100)


@measurement("bernoulli_toy_variances", BernoulliSettings)
def bernoulli(options: BernoulliSettings) -> Measured:
    """Variance of d/dlogit on ``bernoulli_toy`` over theta.

    Quantities: the largest |z| against the closed forms; how surely, at most, the last estimator is
    noisier than each other (the z-score of the logarithm of the ratio);
    its variance for fair coins, which is no part of the grid: a number that takes two values equally often has a
    sample variance without a normal law.
    """
    found: Draws = {}
    known: dict[tuple[str, float, str], float] = {}
    for target in options.targets:
        for theta in options.theta:
            problem = _double("bernoulli_toy", {"target": target, "theta": theta})
            for variant, form in options.estimators.items():
                at = (f"t = {target:g}", theta, variant)
                gradients = _gradients(problem, variant, options.replicates, target=target, theta=theta)
                found[at] = SampleVariance.of(gradients["logits"])
                known[at] = bernoulli_toy.variance(form, theta, target)
    quantities = {"largest |z|": _largest_z(found, known)}
    *others, last = options.estimators
    fair = _gradients(_double("bernoulli_toy", {"theta": 0.5}), last, options.replicates, theta=0.5)["logits"]
    quantities[f"{last} at theta = 1/2: variance"] = exactly(SampleVariance.of(fair).value, options.replicates)
    for other in others:
        ratios = [
            variance.ratio(found[panel, theta, other])
            for (panel, theta, variant), variance in found.items()
            if variant == last
        ]
        excess = max(math.log(ratio.value) / (math.log(ratio.high / ratio.low) / 2) for ratio in ratios)
        quantities[f"{last} noisier than {other}: largest z"] = exactly(excess * normal_quantile(), len(ratios))
    return Measured(quantities, _points(found, known), ("theta", "variance of one estimate"), (False, True))


def _double(name: str, choice: dict[str, Any]) -> Problem:
    return create_problem(Variant(name, choice)).double()


def _gradients(problem: Problem, variant: str, replicates: int, **axes: Any) -> dict[str, torch.Tensor]:
    seed = stream_seed(0, "probe", estimator=variant, **axes)
    x = torch.zeros(1, 1, dtype=torch.float64)
    draws = parameter_draws(problem, create_estimator(variant), x, replicates, seed)
    return {name: gradient[:, 0, 0] for name, gradient in draws.items()}


def _largest_z(found: Draws, known: dict[tuple[str, float, str], float]) -> Interval:
    scores: Callable[[tuple[str, float, str]], float] = lambda at: abs(found[at].z(known[at]))  # noqa: E731
    return exactly(max(map(scores, found)), len(found))


def _crossing(ratios: dict[float, Interval]) -> Interval:
    """Between the last k at which the ratio is surely below one and the first at which it is surely above."""
    below = max((k for k, ratio in ratios.items() if ratio.high < 1), default=min(ratios))
    above = min((k for k, ratio in ratios.items() if ratio.low > 1 and k > below), default=max(ratios))
    return Interval((below + above) / 2, below, above, len(ratios))


def _points(found: Draws, known: dict[tuple[str, float, str], float]) -> list[dict[str, Any]]:
    return [
        {
            "panel": panel,
            "series": variant,
            "x": x,
            "value": variance.value,
            "low": variance.interval.low,
            "high": variance.interval.high,
            "expected": known[panel, x, variant],
        }
        for (panel, x, variant), variance in found.items()
    ]
