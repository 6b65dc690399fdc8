"""The linear-Gaussian model, whose posterior and evidence are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from estbench.datasets import Dataset
from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register

SPLITS = (1024, 256, 256)
VARIANCE = 2 / 3  # of q; the posterior's is 1/2


@register("linear_gaussian")
class LinearGaussian(Problem):
    r"""A linear-Gaussian model (Rainforth et al., 2018, arXiv:1802.04537).

        z ~ N(mu, I),   x|z ~ N(z, I),   q(z|x) = N(A x + b, (2/3) I)
        p(z|x) = N((x + mu) / 2, I / 2),   p(x) = N(mu, 2 I)

    mu is learned, A and b are the encoder, q's variance is fixed and is not the posterior's. The bound is largest at
    mu = mean(x), A = I / 2, b = mu / 2; the weights start there, displaced by ``perturbation`` times standard normal
    noise. With ``importance_samples`` = K > 1 the objective is the multi-sample bound L_K.

    The 1,024 training points are drawn from the model at another mu; they are always the same. mu is the parameter of
    the prior, so its group is ``prior``; it stands for all that a generative network would learn. The KL is always
    sampled, as in the paper: an analytic one would leave mu's gradient without noise. At K = 1 L is known:

        L = log p(x) - KL(q(z|x) || p(z|x))

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("linear_gaussian[dimensions=2]")
    >>> x = torch.zeros(3, 2)
    >>> bool((problem(x).exact() < problem.log_evidence(x)).all())  # L is a lower bound, in nats per example
    True
    """

    summary = "linear-Gaussian model with known posterior and evidence, K importance samples"
    latents = "normal"

    class Options(BaseOptions):
        """Options of ``linear_gaussian``."""

        dimensions: int = Field(default=20, ge=1, description="D, the size of z and of x")
        importance_samples: int = Field(default=1, ge=1, description="K; 1 for the ELBO, more for the bound L_K")
        perturbation: float = Field(
            default=0.01,
            ge=0,
            description="the standard deviation of the weights' distance from the optimum at the start",
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or LinearGaussian.Options()
        size = self.options.dimensions
        self.data = _draw(size)
        self.family = NormalLatents(size)
        self.encoder = nn.Linear(size, size)
        self.mu = nn.Parameter(torch.from_numpy(self.data.train.mean(0)))
        with torch.no_grad():
            self.encoder.weight.copy_(torch.eye(size) / 2)
            self.encoder.bias.copy_(self.mu / 2)
            for weight in self.parameters():
                weight.add_(torch.randn(weight.shape), alpha=self.options.perturbation)

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return "elbo" if options.importance_samples == 1 else "multi-sample"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return intensities

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return ``loc`` and ``log_scale``, (B, D) each; the second is a constant."""
        return _parameters(self.encoder(x), VARIANCE)

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        def expectation() -> Tensor:
            return self.log_evidence(x) - self.family.kl(params, self.posterior(x))

        return Objective(
            params,
            self.family.family,
            lambda z: _normal(z, 1.0).log_prob(x),
            lambda: _normal(self.mu, 1.0),
            x,
            importance_samples=self.options.importance_samples,
            expectation=expectation if self.options.importance_samples == 1 else None,
        )

    def posterior(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of p(z|x), by the names of q's, (B, D) each."""
        return _parameters((x + self.mu) / 2, 0.5)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x), (B,), in nats."""
        return _normal(self.mu, 2.0).log_prob(x)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return A and b as ``encoder``, and mu as ``prior``."""
        return {"encoder": list(self.encoder.parameters()), "prior": [self.mu]}


def _parameters(mean: Tensor, variance: float) -> dict[str, Tensor]:
    return {"loc": mean, "log_scale": torch.full_like(mean, 0.5 * math.log(variance))}


def _normal(mean: Tensor, variance: float) -> Distribution:
    return NormalLatents(mean.shape[-1]).family(_parameters(mean, variance))


def _draw(size: int) -> Dataset:
    """Draw the data from the model at another mu; the draw belongs to the problem's definition."""
    rng = np.random.RandomState(0)
    mu = rng.standard_normal(size)
    points = mu + math.sqrt(2) * rng.standard_normal((sum(SPLITS), size))
    train, validation, test = np.split(points.astype(np.float32), np.cumsum(SPLITS)[:-1])
    return Dataset("linear_gaussian", train, validation, test, shape=(1, size))
