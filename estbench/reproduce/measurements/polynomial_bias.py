"""Bias of estimators for finite latents on polynomials of growing degree, without sampling error."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.certify.checks.exact_mean import enumerate_moments
from estbench.certify.problems.base import Integrand, SmallProblem
from estbench.estimators import create as create_estimator
from estbench.latents import BernoulliLatents, CategoricalLatents, Latents
from estbench.options import BaseOptions
from estbench.reproduce.draws import exactly
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval

# Drawn logits and weights are of this order: probabilities from about 0.1 to 0.9.
SPREAD = 1.0
FAMILIES: dict[str, Latents] = {"bernoulli": BernoulliLatents(3), "categorical": CategoricalLatents(2, 3)}


class Settings(BaseOptions):
    """``degrees`` of the polynomials; ``problems`` counts those drawn at random for each degree and family."""

    estimators: tuple[str, ...]
    degrees: tuple[int, ...]
    families: tuple[Literal["bernoulli", "categorical"], ...] = ("bernoulli", "categorical")
    problems: int = Field(default=20, ge=3)


@measurement("polynomial_bias", Settings)
def polynomial_bias(options: Settings) -> Measured:
    """Bias of the gradient with respect to the logits for f(z) = (c + w'z)^degree: three bits, two of three categories.

    The mean of an estimator that draws from q alone is a sum over all that q can draw; so is the exact gradient. The
    bias is |mean - exact| / |exact|. Quantities, by estimator and degree, over all problems of all families: the
    smallest bias and the largest.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for variant in options.estimators:
        for degree in options.degrees:
            found = {family: _biases(variant, family, degree, options.problems) for family in options.families}
            together = torch.cat(list(found.values()))
            for word, value in (("smallest", together.min()), ("largest", together.max())):
                quantities[f"{variant}, degree {degree}: {word} bias"] = exactly(float(value), len(together))
            points += [
                {
                    "panel": family,
                    "series": variant,
                    "x": degree,
                    "value": float(biases.median()),
                    "low": float(biases.min()),
                    "high": float(biases.max()),
                }
                for family, biases in found.items()
            ]
    axes = ("degree of f", "|mean - exact| / |exact|")
    return Measured(quantities, points, axes, (False, True))


def _biases(variant: str, family: str, degree: int, problems: int) -> Tensor:
    """The relative bias of each problem, (problems,): each is an example of one setting."""
    setting = _setting(family, degree, problems)
    found = enumerate_moments(create_estimator(variant).eval(), setting)
    if found is None:
        raise ValueError(f"the noise of '{variant}' cannot be enumerated")
    exact = setting.exact_gradient()["logits"].flatten(1)
    biases: Tensor = (found.mean["logits"].flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)
    return biases


def _setting(family: str, degree: int, problems: int) -> SmallProblem:
    latents = FAMILIES[family]
    generator = torch.Generator().manual_seed(degree)
    logits, weights = (
        SPREAD * torch.randn(problems, size, generator=generator, dtype=torch.float64)
        for size in (latents.outputs, latents.inputs + 1)
    )
    name = f"{family}, degree {degree}"
    return SmallProblem(name, latents, latents.split(logits), weights, _power(degree), analytic_kl=False)


def _power(degree: int) -> Integrand:
    return lambda z, w: (w[..., 0] + (w[..., 1:] * z).sum(-1)) ** degree
