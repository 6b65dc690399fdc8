"""The Gaussian toys of Mohamed et al. (2020, sec. 3): E[f(z; k)] of z ~ N(m, s^2), its exact gradient, and draws.

k stands for the weights of a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.distributions import Independent, Normal

from estbench import estimators
from estbench.certify.theory.toys import GAUSSIAN_COSTS, GAUSSIAN_EXAMPLES
from estbench.latents import NormalLatents
from estbench.problems import Objective

ROWS = GAUSSIAN_EXAMPLES["quadratic"]  # mean, standard deviation and k of each example
# E f(z; k) for z ~ N(m, s^2).
EXPECTATIONS = {
    "quadratic": lambda m, s, k: (m - k).square() + s.square(),
    "cosine": lambda m, s, k: (k * m).cos() * (-(k * s).square() / 2).exp(),
    "exponential": lambda m, s, k: (
        (1 + 2 * k * s.square()).rsqrt() * (-k * m.square() / (1 + 2 * k * s.square())).exp()
    ),
}


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


def columns(rows=ROWS):
    """m, s and k, (B,) each."""
    return torch.tensor(rows, dtype=torch.float64).unbind(-1)


def make_leaves(*replicates, rows=ROWS, latents=1):
    """loc, log_scale and k, (*replicates, B, latents) each: every latent alike."""
    m, s, k = columns(rows)
    values = {"loc": m, "log_scale": s.log(), "k": k}
    return {
        name: value[:, None].expand(*replicates, -1, latents).clone().requires_grad_() for name, value in values.items()
    }


def make_objective(leaves, cost="quadratic", kl="none", names=("loc", "log_scale"), noise=None):
    """E f(z; k), with the KL to N(0, I) that is ``analytic``, ``sampled`` or ``none``.

    Parameters that are not among ``names`` are constants. With ``noise``, (S, R), q draws by it.
    """
    latents = NormalLatents(leaves["loc"].shape[-1])
    constants = {name: leaves[name].detach() for name in ("loc", "log_scale") if name not in names}
    standard = {name: torch.zeros_like(leaves["loc"]) for name in ("loc", "log_scale")}
    kls = {
        "none": lambda: leaves["loc"].new_zeros(leaves["loc"].shape[:-1]),
        "analytic": lambda: latents.kl(leaves, standard),
        "sampled": None,
    }

    def family(values):
        params = {**constants, **values}
        return latents.family(params) if noise is None else FixedNoise(params["loc"], params["log_scale"].exp(), noise)

    zeros = leaves["loc"].new_zeros(leaves["loc"].shape[-1])
    rows = torch.stack([leaves["loc"], leaves["log_scale"].exp(), leaves["k"]], -1).detach()[..., 0, :]
    return Objective(
        {name: leaves[name] for name in names},
        family,
        lambda z: GAUSSIAN_COSTS[cost](z, leaves["k"]),
        lambda: Independent(Normal(zeros, 1.0), 1),
        rows[(0,) * (rows.dim() - 2)],  # an input for learned baselines, (B, 3)
        kls[kl],
    )


def sample_toy(variant, count, cost="quadratic", kl="none", seed=0, **shape):
    """Independent gradients by name, (count, B, D) each, of an estimator in eval mode: given, or created here."""
    estimator = estimators.create(variant) if isinstance(variant, str) else variant
    leaves = make_leaves(count, **shape)
    torch.manual_seed(seed)
    surrogate = estimator.eval()(make_objective(leaves, cost, kl)).sum()
    drawn = torch.autograd.grad(surrogate, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, drawn, strict=True))


@dataclass(frozen=True)
class GaussianToyOracle:
    """L(m, log s, k) = E[f(z; k)] - KL(N(m, s^2) || N(0, 1)), without the KL if it is ``none``; one example a row."""

    cost: str
    kl: str  # analytic, sampled or none
    rows: tuple[tuple[float, float, float], ...]

    def leaves(self, *replicates):
        """loc, log_scale and k, each (*R, B, 1), as leaves: replicates have gradients of their own."""
        return make_leaves(*replicates, rows=self.rows)

    def exact(self):
        """The gradient of L with respect to loc, log_scale and k, (3, B)."""
        leaves = self.leaves()
        loc, log_scale, k = leaves.values()
        value = EXPECTATIONS[self.cost](loc, log_scale.exp(), k)
        if self.kl != "none":
            value = value - 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1)
        return torch.stack(torch.autograd.grad(value.sum(), list(leaves.values()))).squeeze(-1)

    def objective(self, leaves, noise=None):
        return make_objective(leaves, self.cost, self.kl, noise=noise)

    def gradients(self, estimator, replicates, noise=None):
        """The gradients of ``replicates`` independent draws, (R, 3, B); the estimator's learned parts get none."""
        leaves = self.leaves(replicates)
        surrogate = estimator(self.objective(leaves, noise))
        assert surrogate.shape == (replicates, len(self.rows))
        drawn = torch.autograd.grad(surrogate.sum(), list(leaves.values()), materialize_grads=True)
        return torch.stack(drawn, 1).squeeze(-1)

    def prepared(self, variant, seed=0, steps=5):
        """An estimator in eval mode after some steps, so that baselines have a state that is not zero."""
        torch.manual_seed(seed)
        estimator = estimators.create(variant)
        with torch.no_grad():
            estimator.prepare(self.objective(self.leaves()))
        for _ in range(steps):
            estimator(self.objective(self.leaves(7)))
        return estimator.eval()
