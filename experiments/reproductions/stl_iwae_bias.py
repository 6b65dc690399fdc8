"""Means of multi-sample gradients against the exact gradient of the bound, for one latent and any K."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from _single_estimates import SampleVariance
from _small_problems import SmallProblem
from estbench import estimators
from estbench.experiment import stream_seed
from estbench.latents import NormalLatents
from estbench.measure import draw_gradients
from estbench.options import BaseOptions
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, normal_quantile

CHUNK = 50_000  # replicates of one call
# Trapezoidal rules: for the noise, and for the logarithm of t.
NOISE = torch.linspace(-12, 12, 1201, dtype=torch.float64)
LOG_T = torch.linspace(-45, 75, 1201, dtype=torch.float64)
PARAMETERS: tuple[Literal["loc", "log_scale"], ...] = ("loc", "log_scale")
BIAS = Panel(label="mean of the estimates / exact", level=1.0, level_name="no bias")
NOISE_OF_ONE = Panel(label="variance of one estimate", log=True)
PANELS = {
    **{f"bias, d/d {name}": BIAS for name in PARAMETERS},
    **{f"noise, d/d {name}": NOISE_OF_ONE for name in PARAMETERS},
}


class StlIwaeBiasOptions(BaseOptions):
    """p(z) = N(0, 1), p(x|z) = N(z, 1), q = N(loc, scale^2); ``k`` are the importance samples of the bound."""

    x: float
    loc: float
    scale: float = Field(gt=0)
    k: tuple[int, ...]
    estimators: tuple[str, ...]
    compare: tuple[str, str]
    replicates: int = Field(default=100_000, ge=100)


@study(StlIwaeBiasOptions)
def stl_iwae_bias(options: StlIwaeBiasOptions) -> StudyResult:
    """Measure mean and variance of gradients of the multi-sample bound L_K with respect to loc and log scale.

    Quantities, by estimator, K and parameter: the mean over the exact gradient, one if there is no bias. And the
    variance of the first of ``compare`` over that of the second.
    """
    quantities: dict[str, Interval] = {}
    points = []
    for k in options.k:
        problem = one_latent(options.x, options.loc, options.scale, k)
        exact = exact_gradient(problem)
        variances: dict[tuple[str, str], SampleVariance] = {}
        for variant in options.estimators:
            draws = _draw(variant, problem, options.replicates)
            for name in PARAMETERS:
                variances[variant, name] = SampleVariance.from_draws(draws[name])
                ratio = _mean_over(draws[name], exact[name])
                quantities[f"{variant}, K = {k}, {name}: mean / exact"] = ratio
                points.append(figure_point(f"bias, d/d {name}", variant, k, ratio))
                points.append(figure_point(f"noise, d/d {name}", variant, k, variances[variant, name].interval))
        first, second = options.compare
        for name in PARAMETERS:
            ratio = variances[first, name].ratio(variances[second, name])
            quantities[f"K = {k}, {name}: variance of {first} / {second}"] = ratio
    return StudyResult(quantities, points, ("K", ""), (True, False), PANELS)


def one_latent(x: float, loc: float, scale: float, k: int) -> SmallProblem:
    """Return the bound L_K of one observation x of the linear-Gaussian model with one latent."""
    location, log_scale, observed = torch.tensor([[[loc]], [[math.log(scale)]], [[x]]], dtype=torch.float64)
    params = {"loc": location, "log_scale": log_scale}

    def log_likelihood(z: Tensor, x: Tensor) -> Tensor:
        return -0.5 * ((z - x).square() + math.log(2 * math.pi)).sum(-1)

    return SmallProblem(NormalLatents(1), params, observed, log_likelihood, importance_samples=k)


def exact_gradient(problem: SmallProblem) -> dict[str, float]:
    r"""Gradient of L_K with respect to loc and log scale, from two integrals over a line, for any K.

        log s = int_0^inf (exp(-t) - exp(-t s)) dt / t,   E log sum_k w_k = int (exp(-t) - M(t)^K) d log t

    with M(t) = E_q[exp(-t w)], as the K weights are independent.
    """
    leaves = problem.leaves()
    objective = problem.objective(leaves, problem.x)
    z = leaves["loc"] + leaves["log_scale"].exp() * NOISE[:, None, None]
    weights = objective.log_weight(z).exp()  # (N, 1)
    mass = (-0.5 * NOISE.square()).exp()
    t = LOG_T.exp()
    transform = (mass / mass.sum()) @ (-weights * t).exp()
    integrand = (-t).exp() - transform**problem.importance_samples
    bound = integrand.sum() * (LOG_T[1] - LOG_T[0]) - math.log(problem.importance_samples)
    gradients = torch.autograd.grad(bound, [leaves[name] for name in PARAMETERS])
    return dict(zip(PARAMETERS, map(float, gradients), strict=True))


def _draw(variant: str, problem: SmallProblem, replicates: int) -> dict[str, Tensor]:
    """Draw independent gradients, (R,) for each parameter."""
    k = problem.importance_samples
    seed = stream_seed(0, "probe", estimator=variant, k=k)
    draws = draw_gradients(problem, estimators.create(variant), problem.x, replicates, seed, rows=CHUNK * k)
    return {name: gradient.flatten() for name, gradient in draws.items()}


def _mean_over(draws: Tensor, exact: float) -> Interval:
    value, n = float(draws.mean()) / exact, len(draws)
    half = normal_quantile() * float(draws.std()) / math.sqrt(n) / abs(exact)
    return Interval(value, value - half, value + half, n)
