"""Bias of score-function estimators of the multi-sample bound at finite K, by enumeration."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from estbench.certify.checks.exact_mean import enumerate_moments
from estbench.certify.problems import SMALL
from estbench.certify.problems.base import SmallProblem
from estbench.errors import EstbenchError, did_you_mean
from estbench.estimators import create as create_estimator
from estbench.latents import states
from estbench.options import BaseOptions
from estbench.reproduce.draws import exactly
from estbench.reproduce.measurements import Measured, measurement

FINITE = ("bernoulli", "categorical")


class Settings(BaseOptions):
    """``problems`` are settings of the certificate with finite latents; ``gamma`` is what theory has for a variant."""

    problems: tuple[str, ...] = Field(min_length=1)
    samples: tuple[int, ...] = Field(min_length=1)
    gamma: dict[str, float]


@measurement("multi_sample_bias", Settings)
def multi_sample_bias(options: Settings) -> Measured:
    """Bias of the mean over all K-tuples of samples, relative to the exact gradient of the variational parameters.

    Quantities: the largest and the smallest bias of each variant over problems and K; and the largest distance of a
    bias from gamma E[sum_k v_k s_k], which is what -gamma v_k in a baseline does.
    """
    biases: dict[str, list[float]] = {variant: [] for variant in options.gamma}
    distances, points = [], []
    for name in options.problems:
        for count in options.samples:
            setting = dataclasses.replace(_setting(name), importance_samples=count)
            exact, overlap = setting.exact_gradient()["logits"], weighted_scores(setting)
            for variant, gamma in options.gamma.items():
                bias = mean_gradient(variant, setting) - exact
                size, theory = (float(part.norm() / exact.norm()) for part in (bias, gamma * overlap))
                biases[variant].append(size)
                distances.append(float((bias - gamma * overlap).norm() / exact.norm()))
                points.append(_point(name, variant, count, size, theory))
    quantities = {"largest distance from gamma E[sum_k v_k s_k]": exactly(max(distances), len(distances))}
    for variant, sizes in biases.items():
        quantities[f"{variant}: largest bias"] = exactly(max(sizes), len(sizes))
        quantities[f"{variant}: smallest bias"] = exactly(min(sizes), len(sizes))
    return Measured(quantities, points, ("K", "bias / gradient"))


def mean_gradient(variant: str, setting: SmallProblem) -> Tensor:
    """The estimate's mean over all that it can draw, with respect to the logits of each example."""
    found = enumerate_moments(create_estimator(variant).eval(), setting)
    if found is None:
        raise EstbenchError(
            f"the mean of '{variant}' on '{setting.name}' with {setting.importance_samples} samples cannot be"
            " enumerated; take fewer samples, or an estimator that draws from q alone"
        )
    return found.mean["logits"]


def weighted_scores(setting: SmallProblem) -> Tensor:
    """E[sum_k v_k s_k] with v_k = w_k / sum_l w_l and s_k the score of z_k in the logits, z_k - E z; as the logits."""
    with torch.no_grad():
        objective = setting.objective(setting.leaf_tensors())
        q = objective.q
        values = states(q)
        if values is None:
            raise EstbenchError(f"the latents of '{setting.name}' cannot be enumerated; take another problem")
        z = values.unsqueeze(1).expand(-1, *q.batch_shape, *q.event_shape)
        log_q, log_weights, scores = q.log_prob(z), objective.log_weight(z), z - q.mean
        axes = [torch.arange(len(values))] * setting.importance_samples
        tuples = torch.cartesian_prod(*axes).view(-1, setting.importance_samples)
        shares = log_q[tuples].sum(1, keepdim=True).exp() * log_weights[tuples].softmax(1)  # (tuples, K, B)
        return torch.einsum("tkb,tkb...->b...", shares, scores[tuples])


def _setting(name: str) -> SmallProblem:
    known = {each.name: each for each in SMALL if each.bound == "multi-sample" and each.latents.name in FINITE}
    if name not in known:
        raise EstbenchError(f"unknown problem '{name}'; {did_you_mean(name, known)}")
    return known[name]


def _point(panel: str, series: str, count: int, value: float, theory: float) -> dict[str, Any]:
    return {
        "panel": panel.removesuffix(", multi-sample"),
        "series": series,
        "x": count,
        "value": value,
        "low": math.nan,
        "high": math.nan,
        "expected": theory,
    }
