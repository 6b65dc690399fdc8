"""Means of multi-sample gradients against the exact gradient of the bound, for one latent and any K."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.certify.problems.base import SmallProblem
from estbench.certify.sampling import draw_gradients
from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.randomness import seeded
from estbench.reproduce.draws import SampleVariance, normal_quantile
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import Interval

CHUNK = 50_000  # replicates
# Trapezoidal rules: for the noise, and for the logarithm of t.
NOISE = torch.linspace(-12, 12, 1201, dtype=torch.float64)
LOG_T = torch.linspace(-45, 75, 1201, dtype=torch.float64)
PARAMETERS: tuple[Literal["loc", "log_scale"], ...] = ("loc", "log_scale")


class Settings(BaseOptions):
    """p(z) = N(0, 1), p(x|z) = N(z, 1), q = N(loc, scale^2); ``k`` are the importance samples of the bound."""

    x: float
    loc: float
    scale: float = Field(gt=0)
    k: tuple[int, ...]
    estimators: tuple[str, ...]
    compare: tuple[str, str]
    replicates: int = Field(default=100_000, ge=100)


@measurement("importance_bias", Settings)
def importance_bias(options: Settings) -> Measured:
    """Mean and variance of gradients of the multi-sample bound L_K with respect to loc and log scale.

    Quantities, by estimator, K and parameter: the mean over the exact gradient, one where there is no bias. And the
    variance of the first of ``compare`` over that of the second.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for k in options.k:
        setting = one_latent(options.x, options.loc, options.scale, k)
        exact = exact_gradient(setting)
        variances: dict[tuple[str, str], SampleVariance] = {}
        for variant in options.estimators:
            draws = _draws(variant, setting, options.replicates)
            for name in PARAMETERS:
                variances[variant, name] = SampleVariance.of(draws[name])
                ratio = _mean_over(draws[name], exact[name])
                quantities[f"{variant}, K = {k}, {name}: mean / exact"] = ratio
                ends = dict(zip(("value", "low", "high"), ratio[:3], strict=True))
                points.append({"panel": f"d/d {name}", "series": variant, "x": k, **ends})
        first, second = options.compare
        for name in PARAMETERS:
            ratio = variances[first, name].ratio(variances[second, name])
            quantities[f"K = {k}, {name}: variance of {first} / {second}"] = ratio
    return Measured(quantities, points, ("K", "mean of the estimates / exact gradient"), (True, False))


def one_latent(x: float, loc: float, scale: float, k: int) -> SmallProblem:
    """The bound L_K of one observation x of the linear-Gaussian model with one latent."""
    location, log_scale, observed = torch.tensor([[[loc]], [[math.log(scale)]], [[x]]], dtype=torch.float64)
    params = {"loc": location, "log_scale": log_scale}

    def log_likelihood(z: Tensor, x: Tensor) -> Tensor:
        return -0.5 * ((z - x).square() + math.log(2 * math.pi)).sum(-1)

    name = f"one normal latent, K = {k}"
    return SmallProblem(
        name, NormalLatents(1), params, observed, log_likelihood, analytic_kl=False, importance_samples=k
    )


def exact_gradient(setting: SmallProblem) -> dict[str, float]:
    r"""Gradient of L_K with respect to loc and log scale, from two integrals over a line, whatever K is.

        log s = int_0^inf (exp(-t) - exp(-t s)) dt / t,   E log sum_k w_k = int (exp(-t) - M(t)^K) d log t

    with M(t) = E_q[exp(-t w)], as the K weights are independent.
    """
    leaves = setting.leaf_tensors()
    objective = setting.objective(leaves)
    z = leaves["loc"] + leaves["log_scale"].exp() * NOISE[:, None, None]
    weights = objective.log_weight(z).exp()  # (N, 1)
    mass = (-0.5 * NOISE.square()).exp()
    t = LOG_T.exp()
    transform = (mass / mass.sum()) @ (-weights * t).exp()
    integrand = (-t).exp() - transform**setting.importance_samples
    bound = integrand.sum() * (LOG_T[1] - LOG_T[0]) - math.log(setting.importance_samples)
    found = torch.autograd.grad(bound, [leaves[name] for name in PARAMETERS])
    return dict(zip(PARAMETERS, map(float, found), strict=True))


def _draws(variant: str, setting: SmallProblem, replicates: int) -> dict[str, Tensor]:
    estimator = create_estimator(variant).eval()
    counts = [min(CHUNK, replicates - start) for start in range(0, replicates, CHUNK)]
    with seeded(stream_seed(0, "probe", estimator=variant, k=setting.importance_samples), torch.device("cpu")):
        chunks = [draw_gradients(estimator, setting, count) for count in counts]
    return {name: torch.cat([chunk[name] for chunk in chunks]).flatten() for name in PARAMETERS}


def _mean_over(draws: Tensor, exact: float) -> Interval:
    value, n = float(draws.mean()) / exact, len(draws)
    half = normal_quantile() * float(draws.std()) / math.sqrt(n) / abs(exact)
    return Interval(value, value - half, value + half, n)
