"""Bias of estimators for finite latents on polynomials of growing degree, without sampling error."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from _small_problems import LogLikelihood, SmallProblem, mean_gradient
from estbench.latents import BernoulliLatents, CategoricalLatents, Latents
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import Interval, point_interval

# Drawn logits and weights are of this order: probabilities from about 0.1 to 0.9.
SPREAD = 1.0
FAMILIES: dict[str, Latents] = {"bernoulli": BernoulliLatents(3), "categorical": CategoricalLatents(2, 3)}


class ReinMaxPolynomialsOptions(BaseOptions):
    """``degrees`` of the polynomials; ``problems`` counts those drawn at random for each degree and family."""

    estimators: tuple[str, ...]
    degrees: tuple[int, ...]
    families: tuple[Literal["bernoulli", "categorical"], ...] = ("bernoulli", "categorical")
    problems: int = Field(default=20, ge=3)


@study(ReinMaxPolynomialsOptions)
def reinmax_polynomials(options: ReinMaxPolynomialsOptions) -> StudyResult:
    """Compute the bias of the gradient of the logits for f(z) = (c + w'z)^degree: three bits, two of three categories.

    The mean of an estimator that draws from q only is a sum over all that q can draw; so is the exact gradient. The
    bias is |mean - exact| / |exact|. Quantities, by estimator and degree, over all problems of all families: the
    smallest bias and the largest.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for variant in options.estimators:
        for degree in options.degrees:
            by_family = {family: find_biases(variant, family, degree, options.problems) for family in options.families}
            together = torch.cat(list(by_family.values()))
            for word, value in (("smallest", together.min()), ("largest", together.max())):
                quantities[f"{variant}, degree {degree}: {word} bias"] = point_interval(float(value), len(together))
            for family, biases in by_family.items():
                span = Interval(float(biases.median()), float(biases.min()), float(biases.max()), len(biases))
                points.append(figure_point(family, variant, degree, span))
    axes = ("degree of f", "|mean - exact| / |exact|")
    return StudyResult(quantities, points, axes, (False, True), bars="from the smallest to the largest of the problems")


def find_biases(variant: str, family: str, degree: int, problems: int) -> Tensor:
    """Return the relative bias on each of so many random problems, (problems,): they are the examples of one."""
    problem = draw_problems(FAMILIES[family], degree, problems)
    exact = problem.exact_gradient()["logits"].flatten(1)
    biases: Tensor = (mean_gradient(variant, problem)["logits"].flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)
    return biases


def draw_problems(latents: Latents, degree: int, problems: int) -> SmallProblem:
    """Draw the logits, and c and w of the polynomial, of so many examples."""
    generator = torch.Generator().manual_seed(degree)
    logits, coefficients = (
        SPREAD * torch.randn(problems, size, generator=generator, dtype=torch.float64)
        for size in (latents.outputs, latents.inputs + 1)
    )
    return SmallProblem(latents, latents.split(logits), coefficients, polynomial(degree))


def polynomial(degree: int) -> LogLikelihood:
    """Return f(z) = (c + w'z)^degree as a function of z and of c and w, (..., 1 + inputs)."""
    return lambda z, x: (x[..., 0] + (x[..., 1:] * z).sum(-1)) ** degree
