"""A linear-Gaussian model of one dimension: the moments of all its gradients, and its evidence, are closed forms."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributions import Independent, Normal

from estbench.problems import Objective, Problem


class LinearGaussianOracle(Problem):
    """p(z) = N(0, 1), p(x|z) = N(x; a z + c, 1), q(z|x) = N(w x + b, exp(2 s)), all of one dimension; analytic KL.

    Without a learned decoder (``a = 1``, ``c = 0``) every moment of every gradient is a polynomial. The encoder's
    weights are w, b (through loc) and s (through log_scale).
    """

    name = "linear-gaussian"
    latents = "normal"

    def __init__(self, slope=0.3, offset=0.1, log_scale=-0.2):
        super().__init__()
        self.encoder = nn.ParameterList(
            torch.tensor([value], dtype=torch.float64) for value in (slope, offset, log_scale)
        )
        self.decoder = nn.ParameterList(torch.tensor([value], dtype=torch.float64) for value in (1.0, 0.0))
        # A weight that nothing depends on: its gradient is zero, not missing.
        self.unused = nn.Parameter(torch.ones(2).double())

    def encode(self, x):
        slope, offset, log_scale = self.encoder
        return {"loc": slope * x + offset, "log_scale": log_scale.expand_as(x)}

    def objective(self, params, x):
        loc, log_scale = params["loc"], params["log_scale"]

        def log_likelihood(z):
            gain, shift = self.decoder
            # Without its constant, so that f is exactly -(x - z)^2 / 2.
            return -0.5 * (x - gain * z - shift).square().sum(-1)

        return Objective(
            params,
            lambda values: Independent(Normal(values["loc"], values["log_scale"].exp()), 1),
            log_likelihood,
            lambda: Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1),
            x,
            lambda: 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum(-1),
        )

    def groups(self):
        return {"encoder": list(self.encoder), "decoder": list(self.decoder), "unused": [self.unused]}

    def log_marginal(self, x):
        """log N(x; 0, 2), without the likelihood's constant, as in the objective: (N,)."""
        return (-0.25 * x.square() - 0.5 * math.log(2)).sum(-1)

    @torch.no_grad()
    def elbo(self, x):
        """E_q[-(x - z)^2 / 2] - KL, (N,)."""
        params = self.encode(x)
        loc, scale = params["loc"], params["log_scale"].exp()
        kl = 0.5 * (loc.square() + scale.square() - 2 * scale.log() - 1)
        return (-0.5 * ((x - loc).square() + scale.square()) - kl).sum(-1)
