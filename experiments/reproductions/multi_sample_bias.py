"""Bias of score-function estimators of the multi-sample bound at finite K, by enumeration."""

from __future__ import annotations

import math

import torch
from pydantic import Field, field_validator
from torch import Tensor

from _small_problems import (
    LogLikelihood,
    SmallProblem,
    decoder,
    exponential,
    mean_gradient,
    quadratic,
    random_problem,
)
from estbench import EstbenchError
from estbench.latents import BernoulliLatents, CategoricalLatents, Latents, states
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import Interval, point_interval

BITS, CATEGORIES = BernoulliLatents(2), CategoricalLatents(1, 3)
# Latents, f, the seed of the parameters, and the K for whose bound f is centred.
PROBLEMS: dict[str, tuple[Latents, LogLikelihood, int, int]] = {
    "bernoulli, quadratic, multi-sample": (BITS, quadratic, 3324, 3),
    "bernoulli, exponential, multi-sample": (BITS, exponential, 3557, 2),
    "bernoulli, decoder, multi-sample": (BITS, decoder, 3092, 2),
    "categorical, quadratic, multi-sample": (CATEGORIES, quadratic, 3502, 2),
    "categorical, exponential, multi-sample": (CATEGORIES, exponential, 3735, 2),
    "categorical, decoder, multi-sample": (CATEGORIES, decoder, 3270, 2),
}


class MultiSampleBiasOptions(BaseOptions):
    """``problems`` by name, each at all ``samples`` K; ``gamma`` is the one that theory has for a variant."""

    problems: tuple[str, ...] = Field(min_length=1)
    samples: tuple[int, ...] = Field(min_length=1)
    gamma: dict[str, float]

    @field_validator("problems")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in PROBLEMS:
                raise ValueError(f"unknown problem '{name}'; take one of {'; '.join(PROBLEMS)}")
        return names


@study(MultiSampleBiasOptions)
def multi_sample_bias(options: MultiSampleBiasOptions) -> StudyResult:
    """Compute the bias of the mean over all K-tuples of samples, relative to the exact gradient of the parameters of q.

    Quantities: the largest and the smallest bias of each variant over problems and K; and the largest distance of a
    bias from gamma E[sum_k v_k s_k], which is what -gamma v_k in a baseline does.
    """
    biases: dict[str, list[float]] = {variant: [] for variant in options.gamma}
    distances, points = [], []
    for name in options.problems:
        for count in options.samples:
            problem = build_problem(name, count)
            exact, overlap = problem.exact_gradient()["logits"], weighted_scores(problem)
            for variant, gamma in options.gamma.items():
                bias = mean_gradient(variant, problem)["logits"] - exact
                size, theory = (float(part.norm() / exact.norm()) for part in (bias, gamma * overlap))
                biases[variant].append(size)
                distances.append(float((bias - gamma * overlap).norm() / exact.norm()))
                panel, without_ends = name.removesuffix(", multi-sample"), Interval(size, math.nan, math.nan, 1)
                points.append(figure_point(panel, variant, count, without_ends, expected=theory))
    quantities = {"largest distance from gamma E[sum_k v_k s_k]": point_interval(max(distances), len(distances))}
    for variant, sizes in biases.items():
        quantities[f"{variant}: largest bias"] = point_interval(max(sizes), len(sizes))
        quantities[f"{variant}: smallest bias"] = point_interval(min(sizes), len(sizes))
    return StudyResult(quantities, points, ("K", "bias / gradient"))


def build_problem(name: str, samples: int) -> SmallProblem:
    """Return a problem by its name, with the bound of another number of samples."""
    latents, log_likelihood, seed, centred_for = PROBLEMS[name]
    problem = random_problem(latents, log_likelihood, seed, importance_samples=centred_for)
    problem.importance_samples = samples
    return problem


def weighted_scores(problem: SmallProblem) -> Tensor:
    """Return E[sum_k v_k s_k], of the logits' shape, with v_k = w_k / sum_l w_l and the score s_k = z_k - E z."""
    with torch.no_grad():
        objective = problem.objective(problem.params, problem.x)
        q = objective.q
        values = states(q)
        if values is None:
            raise EstbenchError("the latents of this problem cannot be enumerated; take bits or categories, and few")
        z = values.unsqueeze(1).expand(-1, *q.batch_shape, *q.event_shape)
        log_q, log_weights, scores = q.log_prob(z), objective.log_weight(z), z - q.mean
        axes = [torch.arange(len(values))] * problem.importance_samples
        tuples = torch.cartesian_prod(*axes).view(-1, problem.importance_samples)
        shares = log_q[tuples].sum(1, keepdim=True).exp() * log_weights[tuples].softmax(1)  # (tuples, K, B)
        return torch.einsum("tkb,tkb...->b...", shares, scores[tuples])
