"""Small problems in double precision whose gradients are known exactly: what an estimator is proved on.

A setting has a few examples, a few latents, and a decoder of a few weights. Finite latents are enumerated; normal
ones are integrated by Gauss-Hermite quadrature with enough nodes for the last digit.

The draws that the z-test needs grow with the variance of an estimate over the squared norm of the gradient. Parameters
are therefore such that the gradient is large, of f more than of the KL, and spread over the examples and most
coordinates; and f is *centred*: less its mean over the examples (of the bound, where there are several samples), a
constant that changes no gradient and would only be noise to score functions. What each example is off that mean stays
with it: a baseline has work to do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from estbench.latents import Latents
from estbench.problems import Objective

# Of quadrature per latent: the integrands are smooth and of moderate scale.
NODES = 48
EXAMPLES = 2
# The groups of the model's own weights, beside the names of the variational parameters: the decoder's, the prior's.
WEIGHTS = "weights"
PRIOR = "prior "
Parameters = Mapping[str, Tensor]
Integrand = Callable[[Tensor, Tensor], Tensor]
Expectation = Callable[[Parameters, Parameters, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """One small problem.

    ``params`` holds the variational parameters by name, (B, D) or (B, D, C) each; ``weights`` the decoder's own,
    (B, P), a copy for each example, so that their gradients stay apart. ``integrand`` maps a flat sample,
    (S, *R, B, D), and the weights, (*R, B, P), to log p(x|z), (S, *R, B). ``accuracy`` is that of the latents' own
    sampler, relative to the gradient's norm, where it is not exact: a bias of no more than this is no defect.
    ``detectable`` is the bias, relative to the gradient's norm, that the z-test must be able to see.
    ``expectation`` is L from the parameters, the prior's and the weights where it is known in closed form, (*R, B).

    The parameters of the prior are zeros (a standard normal, fair coins, ...) and learned: groups of their own, called
    ``prior loc`` and so on, with a copy for each example.
    """

    name: str
    latents: Latents
    params: dict[str, Tensor]
    weights: Tensor
    integrand: Integrand
    analytic_kl: bool
    importance_samples: int = 1
    accuracy: float = 0.0
    expectation: Expectation | None = None
    detectable: float = 0.02

    @property
    def bound(self) -> str:
        """``elbo`` or ``multi-sample``, as an estimator declares it."""
        return "elbo" if self.importance_samples == 1 else "multi-sample"

    @property
    def examples(self) -> int:
        """B."""
        return len(self.weights)

    def rows(self, index: list[int]) -> Setting:
        """The same with these examples only, in this order; one may come several times."""
        params = {name: value[index] for name, value in self.params.items()}
        return dataclasses.replace(self, params=params, weights=self.weights[index])

    @property
    def prior(self) -> dict[str, Tensor]:
        """The parameters of the prior by group, of the shapes of those of q."""
        return {PRIOR + name: torch.zeros_like(value) for name, value in self.params.items()}

    def leaves(
        self,
        *replicates: int,
        plain: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """The variational parameters, the weights and the prior's parameters as leaves, (*replicates, B, ...) each.

        ``plain`` makes them one batch of copies, as a training step has it: (R B, ...).
        """
        values = {**self.params, WEIGHTS: self.weights, **self.prior}
        expanded = {name: value.expand(*replicates, *value.shape) for name, value in values.items()}
        if plain:
            expanded = {name: value.flatten(0, len(replicates)) for name, value in expanded.items()}
        return {
            name: value.to(device, dtype, copy=True).contiguous().requires_grad_() for name, value in expanded.items()
        }

    def objective(self, leaves: Parameters) -> Objective:
        """The objective at such leaves; nothing is shared between examples or replicates."""
        params = {name: leaves[name] for name in self.params}
        prior = {name: leaves[PRIOR + name] for name in self.params}
        weights = leaves[WEIGHTS]
        # What was observed is the same for all replicates.
        observed = weights.detach()[(0,) * (weights.dim() - self.weights.dim())]

        def log_likelihood(z: Tensor) -> Tensor:
            return self.integrand(self.latents.flat(z), weights)

        def expectation() -> Tensor:
            return self.expectation(params, prior, weights) if self.expectation else self._quadrature(objective)

        objective = Objective(
            params,
            self.latents.family,
            log_likelihood,
            lambda: self.latents.family(prior),
            observed,
            (lambda: self.latents.kl(params, prior)) if self.analytic_kl else None,
            self.importance_samples,
            expectation if self.expectation or self.latents.name == "normal" else None,
        )
        return objective

    def exact(self) -> dict[str, Tensor]:
        """The exact gradient of L, summed over examples, by group: (B, ...) each, one row an example's own."""
        return dict(self._exact)

    @cached_property
    def _exact(self) -> dict[str, Tensor]:
        leaves = self.leaves()
        gradients = torch.autograd.grad(self.objective(leaves).exact().sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True))

    def scale(self, group: str) -> float:
        """Norm of the exact gradient that a group is part of: all variational parameters, or the model's weights."""
        names = list(self.params) if group in self.params else [WEIGHTS, *self.prior]
        return math.sqrt(sum(float(self._exact[name].square().sum()) for name in names))

    def _quadrature(self, objective: Objective) -> Tensor:
        """L for normal latents, (*R, B): a sum over a grid of noise, with the weights of its density."""
        count = self.importance_samples
        latents = objective.q.event_shape[0]
        abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
        axes = [torch.tensor(abscissae, dtype=torch.float64)] * (latents * count)
        noise = torch.cartesian_prod(*axes).view(-1, count, latents)
        mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * (latents * count)).view(len(noise), -1)
        probability = mass.prod(1)
        loc, scale = objective.params["loc"], objective.params["log_scale"].exp()
        ones = [1] * (loc.dim() - 1)
        z = loc + scale * noise.view(-1, *ones, latents)  # (N * K, *R, B, D)
        if count == 1:
            values = objective.f(z) - objective.kl()
        else:
            log_weights = objective.log_weight(z).view(len(noise), count, *objective.batch_shape)
            values = log_weights.logsumexp(1) - math.log(count)
        return torch.einsum("n,n...->...", probability, values)


def drawn(latents: Latents, seed: int, examples: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Moderate outputs of an encoder, (B, outputs), and weights of a decoder, (B, P)."""
    generator = torch.Generator().manual_seed(seed)
    outputs, weights = (
        2 * torch.rand(examples, size, generator=generator, dtype=torch.float64) - 1
        for size in (latents.outputs, latents.inputs)
    )
    return outputs, weights + 0.3


def centred(setting: Setting) -> Setting:
    """The same gradients from an f whose mean over the examples is zero."""
    objective = setting.objective(setting.leaves())
    with torch.no_grad():
        mean = float((objective.exact() + objective.kl()).mean())
    expectation = setting.expectation
    return dataclasses.replace(
        setting,
        integrand=lambda z, w: setting.integrand(z, w) - mean,
        expectation=None if expectation is None else lambda q, p, w: expectation(q, p, w) - mean,
    )
