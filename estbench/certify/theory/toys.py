"""One-dimensional problems with closed forms: those of Mohamed et al. (2020, sec. 3), one bit, and some others."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from estbench.certify.problems.base import SmallProblem
from estbench.latents import BernoulliLatents, CategoricalLatents, NormalLatents
from estbench.problems.gaussian_variances import Cost

# The cost f(z; k) of a normal z, (..., D) and k of a shape that broadcasts to (...).
GAUSSIAN_COSTS: dict[Cost, Callable[[Tensor, Tensor], Tensor]] = {
    "quadratic": lambda z, k: (z - k).square().sum(-1),
    "cosine": lambda z, k: (k * z).cos().sum(-1),
    "exponential": lambda z, k: (-k * z.square()).exp().sum(-1),
}
# Mean, standard deviation and k of each example.
GAUSSIAN_EXAMPLES: dict[Cost, tuple[tuple[float, float, float], ...]] = {
    "quadratic": ((1.0, 1.0, -3.0), (1.0, 1.5, 0.1), (-0.5, 0.7, 1.0)),
    "cosine": ((1.0, 1.0, 0.5), (1.0, 1.0, 1.0), (-0.4, 0.8, 2.0)),
    "exponential": ((1.0, 1.0, 0.1), (1.0, 1.0, 1.0), (0.3, 0.6, 0.5)),
}
# Probability and target of each example.
BIT_EXAMPLES = ((0.5, 0.45), (0.5, 0.499), (0.1, 0.49), (0.1, 0.45), (0.8, 0.45), (0.9, 0.49))


def to_column(values: list[float] | tuple[float, ...]) -> Tensor:
    """Return the numbers of B examples as a tensor, (B, 1)."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def make_gaussian_toy(cost: Cost, examples: tuple[tuple[float, float, float], ...] | None = None) -> SmallProblem:
    """Return the problem of the cost f(z; k) of z ~ N(m, s^2), for examples of (m, s, k).

    The costs are ``quadratic`` (z - k)^2, ``cosine`` cos(k z) and ``exponential`` exp(-k z^2).
    """
    examples = GAUSSIAN_EXAMPLES[cost] if examples is None else examples
    mean, deviation, k = (to_column(values) for values in zip(*examples, strict=True))
    params = {"loc": mean, "log_scale": deviation.log()}
    name = f"gaussian toy, {cost}, {examples}"
    return SmallProblem(name, NormalLatents(1), params, k, GAUSSIAN_COSTS[cost], analytic_kl=True)


def make_bit_toy(examples: tuple[tuple[float, float], ...] = BIT_EXAMPLES) -> SmallProblem:
    """Return the problem of the cost (b - t)^2 of b ~ Bernoulli(theta), for examples of (theta, t).

    It is the toy of REBAR and RELAX.
    """
    theta, target = (to_column(values) for values in zip(*examples, strict=True))
    return SmallProblem(
        f"one bit, {examples}",
        BernoulliLatents(1),
        {"logits": theta.logit()},
        target,
        lambda b, t: (b - t).square().sum(-1),
        analytic_kl=True,
    )


def make_posterior_toy(importance_samples: int = 1) -> SmallProblem:
    """Return the problem p(z) = N(0, 1), p(x|z) = N(z, 1), whose q is the posterior N(x / 2, 1 / 2)."""
    x = to_column((-2.0, 0.3, 5.0))
    params = {"loc": x / 2, "log_scale": torch.full_like(x, -0.5 * math.log(2))}
    name = f"q is the posterior, K = {importance_samples}"
    return SmallProblem(
        name,
        NormalLatents(1),
        params,
        x,
        lambda z, w: -0.5 * (z - w).square().sum(-1) - 0.5 * math.log(2 * math.pi),
        analytic_kl=False,
        importance_samples=importance_samples,
    )


def make_discrete_toy(latents: BernoulliLatents | CategoricalLatents, cost: str) -> SmallProblem:
    """Return a problem of several latents whose cost is ``linear`` or ``quadratic`` (coupled) in them."""
    generator = torch.Generator().manual_seed(0)
    outputs, weights = (
        2 * torch.rand(2, size, generator=generator, dtype=torch.float64) - 1
        for size in (latents.outputs, latents.inputs)
    )
    integrand = {
        "linear": lambda z, w: (w * z).sum(-1),
        "quadratic": lambda z, w: (w * z).sum(-1).square() + (z * w.flip(-1)).sum(-1),
    }[cost]
    name = f"{latents.name}, {cost} in z"
    return SmallProblem(name, latents, latents.split(outputs), weights, integrand, analytic_kl=True)
