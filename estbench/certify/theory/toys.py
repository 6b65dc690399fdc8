"""One-dimensional problems with closed forms: those of Mohamed et al. (2020, sec. 3), and one bit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estbench.certify.settings.base import Setting
from estbench.latents import BernoulliLatents, CategoricalLatents, NormalLatents

# Mean, standard deviation and k of each example.
QUADRATIC = ((1.0, 1.0, -3.0), (1.0, 1.5, 0.1), (-0.5, 0.7, 1.0))
COSINE = ((1.0, 1.0, 0.5), (1.0, 1.0, 1.0), (-0.4, 0.8, 2.0))
EXPONENTIAL = ((1.0, 1.0, 0.1), (1.0, 1.0, 1.0), (0.3, 0.6, 0.5))
# Probability and target of each example.
BITS = ((0.5, 0.45), (0.5, 0.499), (0.1, 0.49), (0.1, 0.45), (0.8, 0.45), (0.9, 0.49))


def column(values: list[float] | tuple[float, ...]) -> Tensor:
    """Numbers of B examples as a tensor, (B, 1)."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def gaussian(cost: str, rows: tuple[tuple[float, float, float], ...]) -> Setting:
    """The cost f(z; k) of z ~ N(m, s^2): ``quadratic`` (z - k)^2, ``cosine`` cos(k z), ``exponential`` exp(-k z^2)."""
    integrand = {
        "quadratic": lambda z, k: (z - k).square().sum(-1),
        "cosine": lambda z, k: (k * z).cos().sum(-1),
        "exponential": lambda z, k: (-k * z.square()).exp().sum(-1),
    }[cost]
    mean, deviation, k = (column(values) for values in zip(*rows, strict=True))
    params = {"loc": mean, "log_scale": deviation.log()}
    return Setting(f"gaussian toy, {cost}, {rows}", NormalLatents(1), params, k, integrand, analytic_kl=True)


def bits(rows: tuple[tuple[float, float], ...] = BITS) -> Setting:
    """The cost (b - t)^2 of b ~ Bernoulli(theta): the toy of REBAR and RELAX."""
    theta, target = (column(values) for values in zip(*rows, strict=True))
    return Setting(
        f"one bit, {rows}",
        BernoulliLatents(1),
        {"logits": theta.logit()},
        target,
        lambda b, t: (b - t).square().sum(-1),
        analytic_kl=True,
    )


def posterior(importance_samples: int = 1) -> Setting:
    """p(z) = N(0, 1), p(x|z) = N(z, 1) and q the posterior itself, N(x / 2, 1 / 2)."""
    x = column((-2.0, 0.3, 5.0))
    params = {"loc": x / 2, "log_scale": torch.full_like(x, -0.5 * math.log(2))}
    name = f"q is the posterior, K = {importance_samples}"
    return Setting(
        name,
        NormalLatents(1),
        params,
        x,
        lambda z, w: -0.5 * (z - w).square().sum(-1) - 0.5 * math.log(2 * math.pi),
        analytic_kl=False,
        importance_samples=importance_samples,
    )


def discrete(latents: BernoulliLatents | CategoricalLatents, cost: str) -> Setting:
    """Several bits or categories, and a cost that is ``linear`` or ``quadratic`` (coupled) in them."""
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
    return Setting(name, latents, latents.split(outputs), weights, integrand, analytic_kl=True)
