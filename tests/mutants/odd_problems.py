"""Correct problems that look unusual: their certificate passes, and says what is unusual."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from estbench.datasets import Dataset
from estbench.latents import NormalLatents
from estbench.problems import Objective, Problem
from estbench.problems.vae import VAE
from mutants.problem_defects import BITS, NORMAL, Correct


class NoisyEncoder(Correct):
    """Dropout in the encoder that stays on in eval mode."""

    def encode(self, x):
        return super().encode(F.dropout(x, 0.2, training=True))


class BatchNorm(Correct):
    def __init__(self, options=None):
        super().__init__(options)
        self.encoder.insert(1, nn.BatchNorm1d(4))


class NoReplicates(Correct):
    """A likelihood for samples of one batch only."""

    def objective(self, params, x):
        objective = super().objective(params, x)

        def log_likelihood(z):
            if z.dim() != 3:
                raise ValueError("(S, B, D) only")
            return objective._log_likelihood(z)

        return self.changed(objective, log_likelihood=log_likelihood)


class Weighted(Correct):
    """A weighted KL, stated as such."""

    def objective(self, params, x):
        return self.changed(super().objective(params, x), kl_weight=4.0)


class SavedSchedule(Correct):
    """A counter that changes f in training, and is a buffer."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("steps", torch.zeros(()))

    def objective(self, params, x):
        objective = super().objective(params, x)
        if self.training:
            self.steps += 1
        shift = self.steps.clone()
        return self.changed(objective, log_likelihood=lambda z: objective._log_likelihood(z) - shift)


class Tied(VAE):
    """The decoder's weight is the encoder's, transposed."""

    summary = "tied weights"

    def __init__(self, options=None):
        super().__init__(options)
        self.decoder[0].weight = nn.Parameter(self.encoder[2].weight.detach()[:3].T.clone())
        self.encoder_copy = self.decoder[0]


class SinglePrecision(Correct):
    """A model that refuses double precision."""

    def encode(self, x):
        if x.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return super().encode(x)


class OwnFamily(Correct):
    """A q that no family of estbench is: a Laplace distribution, with a sampled KL."""

    @classmethod
    def latents_of(cls, options):
        return "laplace"

    def objective(self, params, x):
        objective = super().objective(params, x)
        return self.changed(
            objective,
            family=lambda p: _laplace(p["loc"], p["log_scale"].exp()),
            prior=lambda: _laplace(torch.zeros(3), torch.ones(3)),
            kl=None,
        )


def _laplace(loc, scale):
    return torch.distributions.Independent(torch.distributions.Laplace(loc, scale), 1)


class Denoise(Problem):
    """Two weights without telling names, and no network; options are none."""

    summary = "p(z) = N(0, 1), p(x|z) = N(x; z, 1)"
    latents = "normal"

    def __init__(self, options=None):
        super().__init__()
        points = torch.linspace(-1, 1, 8)[:, None].numpy()
        self.data = Dataset("points", points, points, points, shape=(1, 1))
        self.a, self.s = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def observe(self, intensities, generator):
        return intensities

    def encode(self, x):
        return {"loc": self.a * x, "log_scale": self.s.expand_as(x)}

    def objective(self, params, x):
        normal = NormalLatents(1)
        return Objective(
            params,
            normal.family,
            lambda z: torch.distributions.Normal(z, 1.0).log_prob(x).sum(-1),
            lambda: normal.family({"loc": torch.zeros(1), "log_scale": torch.zeros(1)}),
        )


# The problem, its options, and a check with words that its evidence must have.
ODD_BUT_CORRECT = [
    (NoisyEncoder, BITS, "examples apart", ["takes the loop", "noise of its own"]),
    (BatchNorm, BITS, "examples apart", ["in training mode it does"]),
    (BatchNorm, BITS, "probe", ["by the loop", "BatchNorm1d"]),
    (NoReplicates, BITS, "leading dimensions", ["takes the loop", "(S, B, D) only"]),
    (Weighted, BITS, "closed-form KL", ["a weight times"]),
    (SavedSchedule, BITS, "examples apart", ["in training mode calls with the same noise differ"]),
    (Tied, NORMAL, "groups", ["encoder", "decoder"]),
    (SinglePrecision, BITS, "leading dimensions", ["float32"]),
    (SinglePrecision, BITS, "exact objective", ["skipped", "double precision"]),
    (OwnFamily, NORMAL, "parameters", ["Laplace", "no family"]),
    (OwnFamily, NORMAL, "closed-form KL", ["skipped", "sampled"]),
    (Denoise, "", "groups", ["encoder 2 weights"]),
    (Denoise, "", "exact objective", ["skipped", "no exact value"]),
]
