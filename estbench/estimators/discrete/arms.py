"""More than two antithetic samples of bits, from a copula."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from estbench.estimators._surrogates import gradient_surrogate
from estbench.estimators.base import Estimator, register
from estbench.estimators.score_function import leave_one_out_mean
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems import Objective

# Nodes of Gauss-Legendre quadrature: enough for the last digit in double precision.
NODES = 24


@register("arms")
class ARMS(Estimator):
    r"""Antithetic REINFORCE with multiple samples (Dimitriev and Zhou, 2021, arXiv:2105.14141).

        grad_i ~ k_i (1/S) sum_s (f(b_s) - mean_{r != s} f(b_r)) (b_si - theta_i)
        k_i = theta_i (1 - theta_i) / (theta_i - rho_i),   rho_i = P(b_si = b_ri = 1) for r != s

    The S samples are marginally from q and negatively dependent: each latent has its own S uniforms from a copula.
    Leave-one-out differences of dependent samples are too small, and the factor in front corrects that exactly. It is
    the same for ones and for zeros, so the rarer of the two, of probability m <= 1/2, is drawn:

    * ``copula=dirichlet``: u_s = (1 - d_s)^{S-1}, d ~ Dirichlet(1, ..., 1);
      P(u_s < m, u_r < m) = max(0, 2 m^{1/(S-1)} - 1)^{S-1}, zero up to m = 2^{1-S};
    * ``copula=gaussian``: u_s = Phi(g_s), normals with all correlations -1/(S-1).

    With two samples both are the antithetic pair of DisARM, and so is the estimate.

    Requires bits, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("arms")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "leave-one-out on negatively dependent samples of bits"
    reference = "dimitriev2021"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("arms[copula=gaussian]",)

    class Options(BaseOptions):
        """Options of ``arms``."""

        num_samples: int = Field(default=4, ge=2, description="S, the samples of each example")
        copula: Literal["dirichlet", "gaussian"] = Field(
            default="dirichlet", description="how the samples depend on each other; for num_samples of 3 or more"
        )

        @model_validator(mode="after")
        def _applicable(self) -> ARMS.Options:
            refuse_without_effect(self, {"copula": "num_samples=2" if self.num_samples == 2 else ""})
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        logits, samples = objective.params["logits"].detach(), self.options.num_samples
        uniforms, factor = COPULAS[self.options.copula]
        rarer = (-logits.abs()).sigmoid().clamp(min=torch.finfo(logits.dtype).tiny)
        drawn = uniforms(logits.new_empty(samples, *logits.shape)) < rarer
        bits = torch.where(logits < 0, drawn, ~drawn).to(logits)
        f = objective.f(bits, objective.frozen_q())
        score = bits - logits.sigmoid()
        signal = f.detach() - leave_one_out_mean(f.detach())
        return gradient_surrogate(objective, f, factor(rarer, samples) * (signal[..., None] * score).mean(0))


def dirichlet_uniforms(like: Tensor) -> Tensor:
    """Return uniforms that are exchangeable and negatively dependent over the first dimension, (S, *B, D)."""
    exponential = torch.empty_like(like).exponential_()
    total = exponential.sum(0)
    return ((total - exponential) / total).pow(len(like) - 1)


def dirichlet_factor(m: Tensor, samples: int) -> Tensor:
    """Return m (1 - m) / (m - P(both)) for such uniforms, of the shape of m <= 1/2."""
    both = (2 * m ** (1 / (samples - 1)) - 1).clamp(min=0) ** (samples - 1)
    return (1 - m) / (1 - both / m)


def gaussian_uniforms(like: Tensor) -> Tensor:
    """Return uniforms from normals whose sum over the first dimension is zero, (S, *B, D)."""
    normal = torch.randn_like(like)
    uniform: Tensor = torch.special.ndtr((normal - normal.mean(0)) * math.sqrt(len(like) / (len(like) - 1)))
    return uniform


def gaussian_factor(m: Tensor, samples: int) -> Tensor:
    r"""Return m (1 - m) / (m - P(both)) for such uniforms, of the shape of m <= 1/2.

    By Plackett's identity, with h = Phi^{-1}(m) and the correlation r = -1/(S-1) = sin t,

        P(both) = m^2 - (1 / 2 pi) int_t^0 exp(-h^2 / (1 + sin s)) ds
    """
    angle = math.asin(1 / (samples - 1))
    abscissae, masses = np.polynomial.legendre.leggauss(NODES)
    h_squared = torch.special.ndtri(m).square()
    deficit = torch.zeros_like(m)
    for abscissa, mass in zip(abscissae.tolist(), masses.tolist(), strict=True):
        deficit += mass * (-h_squared / (1 - math.sin(angle * (1 + abscissa) / 2))).exp()
    return 1 / (1 + deficit * angle / (4 * math.pi) / (m * (1 - m)))


COPULAS = {
    "dirichlet": (dirichlet_uniforms, dirichlet_factor),
    "gaussian": (gaussian_uniforms, gaussian_factor),
}
