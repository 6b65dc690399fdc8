"""Baselines from a group of samples (GRPO, Dr. GRPO, leave-one-out): length and direction of the mean gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from _small_problems import Family, SmallProblem, mean_gradient
from estbench.latents import CategoricalLatents
from estbench.options import BaseOptions
from estbench.problems import Objective
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, point_interval

LEAVE_ONE_OUT, MEAN, STANDARDISED = "leave-one-out", "group mean", "group mean / deviation"
VARIANTS = {
    LEAVE_ONE_OUT: "rloo[num_samples={}]",
    MEAN: "reinforce[baseline=group,num_samples={}]",
    STANDARDISED: "reinforce[baseline=group,num_samples={},standardise=true]",
}
PANELS = {
    "length": Panel(label="length of the mean / of the gradient", level=1.0, level_name="the gradient"),
    "cosine": Panel(label="cosine of the angle to the gradient", level=1.0, level_name="the gradient"),
}
WEIGHT = "weight of a question"
WEIGHT_PANEL = Panel(label="factor of its gradient", level=1.0, level_name="the gradient")
Chance = Annotated[float, Field(gt=0, lt=1)]
GroupSize = Annotated[int, Field(ge=2)]


class GroupBaselinesOptions(BaseOptions):
    """``samples`` are the sizes K of a group, ``large_samples`` those for which only the formula is used.

    ``chances`` are those of a right answer, one question each. ``rewards`` are those of the three answers to a graded
    question, and ``probabilities`` their probabilities.
    """

    samples: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(min_length=1)
    large_samples: tuple[GroupSize, ...] = ()
    chances: tuple[Chance, ...] = Field(min_length=2)
    rewards: tuple[float, float, float]
    probabilities: tuple[Chance, Chance, Chance]


class Questions(SmallProblem):
    """Questions with three answers, one example each: the (B, 3) probabilities of the answers, and their rewards."""

    name = "questions"

    def __init__(self, probabilities: Tensor, rewards: Tensor) -> None:
        logits = probabilities.log()[:, None]
        super().__init__(CategoricalLatents(1, 3), {"logits": logits}, rewards, lambda z, x: (z * x).sum(-1))

    def objective_of(self, params: Mapping[str, Tensor], family: Family) -> Objective:
        """Return E_q[f], without a KL."""
        without_kl = params["logits"].new_zeros(params["logits"].shape[:-2])
        return Objective(
            params,
            family,
            lambda z: self.log_likelihood(self.family.flat(z), self.x),
            lambda: self.family.family({"logits": torch.zeros_like(params["logits"])}),
            self.x,
            lambda: without_kl,
        )


@study(GroupBaselinesOptions)
def group_baselines(options: GroupBaselinesOptions) -> StudyResult:
    """Compute the mean of each estimate over all K-tuples of answers, for two sets of questions without a KL.

    In "right or wrong" every question has one right answer, of reward 1; the gradient is that of all questions
    together. "graded" is a single question whose answers have other rewards. Quantities: lengths and cosines; what the
    deviation multiplies the gradient of a question by, and the largest of these factors over the smallest; the largest
    distance of the means from what is derived.
    """
    sets = {"right or wrong": right_or_wrong(options.chances), "graded": graded(options)}
    chances = torch.tensor(options.chances, dtype=torch.float64)
    quantities: dict[str, Interval] = {}
    points = []
    distances: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for count in options.samples:
        for kind, problem in sets.items():
            exact = problem.exact_gradient()["logits"]
            derived = {LEAVE_ONE_OUT: exact, MEAN: (1 - 1 / count) * exact}
            if kind == "right or wrong":
                derived[STANDARDISED] = question_weight(count, chances).view(-1, 1, 1) * exact
            elif count == 2:
                derived[STANDARDISED] = sign_gradient(problem)
            for name, variant in VARIANTS.items():
                mean = mean_gradient(variant.format(count), problem)["logits"]
                if name in derived:
                    distances[name].append(float((mean - derived[name]).norm() / exact.norm()))
                measured = {
                    "length": float(mean.norm() / exact.norm()),
                    "cosine": float((mean * exact).sum() / (mean.norm() * exact.norm())),
                }
                for panel, value in measured.items():
                    quantities[f"{name}, {kind}, K = {count}: {panel}"] = point_interval(value, 1)
                    points.append(figure_point(f"{panel}, {kind}", name, count, point_interval(value, 1)))
    for name, sizes in distances.items():
        quantities[f"{name}: largest distance from the derived mean"] = point_interval(max(sizes), len(sizes))
    for count in (*options.samples, *options.large_samples):
        weights = question_weight(count, chances).tolist()
        quantities[f"largest weight / smallest, K = {count}"] = point_interval(
            max(weights) / min(weights), len(weights)
        )
        for chance, weight in zip(options.chances, weights, strict=True):
            quantities[f"weight of chance {chance:g}, K = {count}"] = point_interval(weight, 1)
            points.append(figure_point(WEIGHT, f"K = {count}", chance, point_interval(weight, 1)))
    panels = {f"{panel}, {kind}": shown for panel, shown in PANELS.items() for kind in sets} | {WEIGHT: WEIGHT_PANEL}
    return StudyResult(quantities, points, ("K, or the chance p", "value"), panels=panels)


def right_or_wrong(chances: tuple[float, ...]) -> Questions:
    """Return a question for each chance of its right answer, of reward 1; the wrong ones share the rest 2 to 1."""
    right = torch.tensor(chances, dtype=torch.float64)
    probabilities = torch.stack([right, (1 - right) * 2 / 3, (1 - right) / 3], -1)
    return Questions(probabilities, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(len(right), 3))


def graded(options: GroupBaselinesOptions) -> Questions:
    """Return the graded question."""
    probabilities = torch.tensor([options.probabilities], dtype=torch.float64)
    return Questions(probabilities / probabilities.sum(), torch.tensor([options.rewards], dtype=torch.float64))


def question_weight(count: int, chance: Tensor) -> Tensor:
    r"""Return what the deviation multiplies the gradient of a question by, for rewards of 0 and 1 and a group of K.

    With k right answers, advantages are (1 - k/K) / s and (-k/K) / s, s^2 = k (K - k) / (K (K - 1)). A right answer's
    score has the mean grad p / p, a wrong one's -grad p / (1 - p), and k is binomial, so that the mean is

        grad p  E[sqrt(k (K - k) (K - 1) / K)] / (K p (1 - p))

    It tends to 1 / sqrt(p (1 - p)) for large K, which is that of ascending 2 arcsin sqrt(p) in place of p.
    """
    right = torch.arange(count + 1, dtype=torch.float64).view(-1, *[1] * chance.dim())
    log_binomial = math.lgamma(count + 1) - torch.lgamma(right + 1) - torch.lgamma(count - right + 1)
    law = (log_binomial + right * chance.log() + (count - right) * (-chance).log1p()).exp()
    spread = (right * (count - right) * (count - 1) / count).sqrt()
    return (law * spread).sum(0) / (count * chance * (1 - chance))


def sign_gradient(problem: Questions) -> Tensor:
    """Return the mean of the standardised estimate of two samples: of f_1 - f_2 only the sign is left.

    The advantages are +-sign(f_1 - f_2) / sqrt 2, so the mean is E[sign(f_1 - f_2) score(z_1)] / sqrt 2.
    """
    p = problem.params["logits"].softmax(-1)
    signs = (problem.x[:, None, :, None] - problem.x[:, None, None, :]).sign()  # (B, 1, 3, 3)
    return p * (signs * p[..., None, :]).sum(-1) / math.sqrt(2)
