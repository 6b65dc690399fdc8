"""Variances of single estimates on ``bernoulli_toy`` along a grid of theta, against their closed forms."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from _single_estimates import Place, SampleVariance, draw_on_toy, figure_points, largest_z
from estbench.options import BaseOptions
from estbench.problems import bernoulli_toy_variance
from estbench.reproduce import StudyResult, study
from estbench.stats import normal_quantile, point_interval


class BernoulliVariancesOptions(BaseOptions):
    """``theta`` is the grid; ``estimators`` are variants, each with the name of its closed form."""

    theta: tuple[float, ...]
    targets: tuple[float, ...]
    estimators: dict[str, Literal["reinforce", "rloo", "arm", "disarm"]]
    replicates: int = Field(default=20_000, ge=100)


@study(BernoulliVariancesOptions)
def bernoulli_variances(options: BernoulliVariancesOptions) -> StudyResult:
    """Measure the variance of d/dlogit on ``bernoulli_toy`` over theta.

    Quantities: the largest |z| against the closed forms; how surely, at most, the last estimator is noisier than each
    other (the z-score of the logarithm of the ratio); its variance for fair coins. Fair coins are not part of the grid,
    because a number that takes two values equally often has a sample variance without a normal law.
    """
    measured: dict[Place, SampleVariance] = {}
    known: dict[Place, float] = {}
    for target in options.targets:
        for theta in options.theta:
            toy = f"bernoulli_toy[target={target!r},theta={theta!r}]"
            for variant, form in options.estimators.items():
                place = (f"t = {target:g}", theta, variant)
                gradients = draw_on_toy(toy, variant, options.replicates, target=target, theta=theta)
                measured[place] = SampleVariance.from_draws(gradients["logits"])
                known[place] = bernoulli_toy_variance(form, theta, target)
    quantities = {"largest |z|": largest_z(measured, known)}
    *others, last = options.estimators
    fair = draw_on_toy("bernoulli_toy[theta=0.5]", last, options.replicates, theta=0.5)["logits"]
    variance = SampleVariance.from_draws(fair).value
    quantities[f"{last} at theta = 1/2: variance"] = point_interval(variance, options.replicates)
    for other in others:
        ratios = [
            variance.ratio(measured[panel, theta, other])
            for (panel, theta, variant), variance in measured.items()
            if variant == last
        ]
        excess = max(math.log(ratio.value) / (math.log(ratio.high / ratio.low) / 2) for ratio in ratios)
        quantities[f"{last} noisier than {other}: largest z"] = point_interval(excess * normal_quantile(), len(ratios))
    axes = ("theta", "variance of one estimate")
    return StudyResult(quantities, figure_points(measured, known), axes, (False, True))
