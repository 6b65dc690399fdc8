"""Objectives whose gradients are known: the one-dimensional Gaussian toys of Mohamed et al. (2020, sec. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Independent, Normal

from estbench import estimators
from estbench.problems import Objective

# f(z; k), and E f(z; k) for z ~ N(m, s^2). k is the model's own weight: it stands for the decoder.
INTEGRANDS = {
    "quadratic": lambda z, k: (z - k).square(),
    "cosine": lambda z, k: (k * z).cos(),
    "bump": lambda z, k: (-k * z.square()).exp(),
}
EXPECTATIONS = {
    "quadratic": lambda m, s, k: (m - k).square() + s.square(),
    "cosine": lambda m, s, k: (k * m).cos() * (-(k * s).square() / 2).exp(),
    "bump": lambda m, s, k: (1 + 2 * k * s.square()).rsqrt() * (-k * m.square() / (1 + 2 * k * s.square())).exp(),
}
# Rows of (mean, standard deviation, k): one example each.
SETTINGS = {
    "quadratic": [(1.0, 1.0, -3.0), (1.0, 1.5, 0.1), (-0.5, 0.7, 1.0)],
    "cosine": [(1.0, 1.0, 0.5), (1.0, 1.0, 1.0), (-0.4, 0.8, 2.0)],
    "bump": [(1.0, 1.0, 0.1), (1.0, 1.0, 1.0), (0.3, 0.6, 0.5)],
}
COORDINATES = ("loc", "log_scale", "weight")


class FixedNoise(Independent):
    """A normal whose draws are loc + scale * noise for a given noise, (S, R): quadrature nodes, say."""

    def __init__(self, loc, scale, noise):
        super().__init__(Normal(loc, scale), 1)
        self.noise = noise

    def rsample(self, sample_shape=()):
        assert tuple(sample_shape) == self.noise.shape[:1], "the estimator draws another number of samples"
        return self.base_dist.loc + self.base_dist.scale * self.noise[..., None, None]

    def sample(self, sample_shape=()):
        return self.rsample(sample_shape).detach()


@dataclass(frozen=True)
class GaussianToy:
    """L(m, log s, k) = E[f(z; k)] - KL(N(m, s^2) || N(0, 1)); one example for each setting."""

    name: str
    kl: str  # analytic, sampled or none
    settings: tuple[tuple[float, float, float], ...]

    def leaves(self, *replicates):
        """loc, log_scale and k, each (*R, B, 1), as leaves: replicates have gradients of their own."""
        table = torch.tensor(self.settings, dtype=torch.float64)
        columns = (table[:, 0], table[:, 1].log(), table[:, 2])
        return [column[:, None].expand(*replicates, -1, 1).clone().requires_grad_() for column in columns]

    def exact(self):
        """The gradient of L with respect to loc, log_scale and k, (3, B)."""
        loc, log_scale, k = leaves = self.leaves()
        value = EXPECTATIONS[self.name](loc, log_scale.exp(), k)
        if self.kl != "none":
            value = value - 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1)
        return torch.stack(torch.autograd.grad(value.sum(), leaves)).squeeze(-1)

    def objective(self, leaves, noise=None):
        loc, log_scale, k = leaves
        params = {"loc": loc, "log_scale": log_scale}

        def family(values):
            m, s = values["loc"], values["log_scale"].exp()
            return Independent(Normal(m, s), 1) if noise is None else FixedNoise(m, s, noise)

        def prior():
            return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

        def analytic():
            return 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum(-1)

        kl = {"analytic": analytic, "none": lambda: torch.zeros(loc.shape[:-1]).double(), "sampled": None}[self.kl]
        context = torch.tensor(self.settings, dtype=torch.float64)
        return Objective(params, family, lambda z: INTEGRANDS[self.name](z, k).sum(-1), prior, context, kl)

    def gradients(self, estimator, replicates, noise=None):
        """The gradients of ``replicates`` independent draws, (R, 3, B); the estimator's learned parts get none."""
        leaves = self.leaves(replicates)
        surrogate = estimator(self.objective(leaves, noise))
        assert surrogate.shape == (replicates, len(self.settings))
        found = torch.autograd.grad(surrogate.sum(), leaves, allow_unused=True)
        parts = [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, found, strict=True)]
        return torch.stack(parts, 1).squeeze(-1)

    def prepared(self, variant, seed=0, steps=5):
        """An estimator in eval mode after some steps, so that baselines have a state that is not zero."""
        torch.manual_seed(seed)
        estimator = estimators.create(variant)
        with torch.no_grad():
            estimator.prepare(self.objective(self.leaves()))
        for _ in range(steps):
            estimator(self.objective(self.leaves(7)))
        return estimator.eval()


@pytest.fixture
def toy():
    """Build a toy: ``toy("cosine", "analytic")``."""

    def build(name="quadratic", kl="analytic", settings=None):
        return GaussianToy(name, kl, tuple(settings or SETTINGS[name]))

    return build


@pytest.fixture
def quadrature():
    """Gauss-Hermite nodes for S independent standard normals: noise of (S, n^S) and weights of (n^S,)."""

    def build(samples, nodes):
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        weights = weights / math.sqrt(2 * math.pi)
        noise = torch.cartesian_prod(*[torch.from_numpy(points)] * samples).reshape(-1, samples).T
        products = torch.cartesian_prod(*[torch.from_numpy(weights)] * samples).reshape(-1, samples).prod(1)
        return noise.contiguous(), products

    return build


@pytest.fixture
def largest_z():
    """Bonferroni: any of ``tests`` z-scores of true hypotheses exceeds this with probability 1e-4 at most."""
    return lambda tests, false_alarm=1e-4: float(stats.norm.isf(false_alarm / (2 * tests)))
