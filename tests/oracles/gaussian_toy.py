"""Gaussian toys for the tests of estimators: many draws of the gradient, and z-scores of their moments."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch.distributions import Independent, Normal

from estbench import estimators
from estbench.latents import NormalLatents
from estbench.problems import Objective

# Mean, standard deviation and k of each example.
ROWS = ((1.0, 1.0, -3.0), (1.0, 1.5, 0.1), (-0.5, 0.7, 1.0))
COSTS = {
    "quadratic": lambda z, k: (z - k).square().sum(-1),
    "cosine": lambda z, k: (k * z).cos().sum(-1),
    "bump": lambda z, k: (-k * z.square()).exp().sum(-1),
}


def columns(rows=ROWS):
    """m, s and k, (B,) each."""
    return torch.tensor(rows, dtype=torch.float64).unbind(-1)


def leaves(*replicates, rows=ROWS, latents=1):
    """loc, log_scale and k, (*replicates, B, latents) each: every latent alike."""
    m, s, k = columns(rows)
    values = {"loc": m, "log_scale": s.log(), "k": k}
    return {
        name: value[:, None].expand(*replicates, -1, latents).clone().requires_grad_() for name, value in values.items()
    }


def objective(leaves, cost="quadratic", kl="none", names=("loc", "log_scale")):
    """E f(z; k), with the KL to N(0, I) or ``none``; parameters not among ``names`` are constants."""
    latents = NormalLatents(leaves["loc"].shape[-1])
    constants = {name: leaves[name].detach() for name in ("loc", "log_scale") if name not in names}
    params = {name: leaves[name] for name in names}
    standard = {name: torch.zeros_like(leaves["loc"]) for name in ("loc", "log_scale")}
    parts = {
        "none": lambda: leaves["loc"].new_zeros(leaves["loc"].shape[:-1]),
        "analytic": lambda: latents.kl(leaves, standard),
        "sampled": None,
    }
    return Objective(
        params,
        lambda values: latents.family({**constants, **values}),
        lambda z: COSTS[cost](z, leaves["k"]),
        lambda: Independent(Normal(standard["loc"][0], 1.0), 1),
        torch.tensor(ROWS, dtype=torch.float64),
        parts[kl],
    )


def draws(variant, count, cost="quadratic", kl="none", seed=0, **shape):
    """Independent gradients by name, (count, B, D) each, of an estimator in eval mode: given, or a fresh one."""
    estimator = estimators.create(variant) if isinstance(variant, str) else variant
    parts = leaves(count, **shape)
    torch.manual_seed(seed)
    surrogate = estimator.eval()(objective(parts, cost, kl)).sum()
    found = torch.autograd.grad(surrogate, list(parts.values()), materialize_grads=True)
    return dict(zip(parts, found, strict=True))


def z_of_variance(drawn, expected):
    """z-scores of sample variances, (n, ...) against (...); the error is from the sample's fourth moment."""
    n, variance = len(drawn), drawn.var(0)
    fourth = (drawn - drawn.mean(0)).pow(4).mean(0)
    return (variance - expected) / ((fourth - variance.square() * (n - 3) / (n - 1)) / n).sqrt()


def z_of_mean(drawn, expected):
    """z-scores of sample means, (n, ...) against (...)."""
    return (drawn.mean(0) - expected) / drawn.std(0) * math.sqrt(len(drawn))


def largest_z(tests, false_alarm=1e-4):
    """Any of ``tests`` z-scores of true hypotheses exceeds this with probability ``false_alarm`` at most."""
    return float(stats.norm.isf(false_alarm / (2 * tests)))
