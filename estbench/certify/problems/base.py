"""Small problems in double precision with known exact gradients, on which estimators are checked.

A small problem has a few examples, a few latents, and a decoder of a few weights. Finite latents are enumerated.
Normal latents are integrated by Gauss-Hermite quadrature with enough nodes for the last digit.

The number of draws that the z-test needs grows with the variance of an estimate over the squared norm of the gradient.
The parameters are therefore chosen such that the gradient is large, comes more from f than from the KL, and is spread
over the examples and most coordinates. And f is *centred*: its mean over the examples (for several samples, the mean of
the bound) is subtracted. This constant changes no gradient and would only be noise for score functions. The examples
still differ from that mean, so that a baseline has something to do.
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
from torch.distributions import Distribution, MultivariateNormal

from estbench.latents import Latents
from estbench.problems import Objective
from estbench.problems.linear_layers import LinearLayers

# Families that are integrated by quadrature over standard noise.
QUADRATURE = frozenset({"normal", "full-normal", "layers"})
NODES = 48  # of quadrature, per latent: the integrands are smooth and of moderate scale
EXAMPLES = 2
# Groups of gradients: the names of the variational parameters, and these two for the model's own weights. The name of
# a prior's parameter follows the prefix: "prior loc".
WEIGHTS = "weights"
PRIOR = "prior "
Parameters = Mapping[str, Tensor]
Integrand = Callable[[Tensor, Tensor], Tensor]
Expectation = Callable[[Parameters, Parameters, Tensor], Tensor]


@dataclass(frozen=True)
class SmallProblem:
    """One small problem.

    ``params``: the variational parameters by name, (B, D) or (B, D, C) each.
    ``weights``: the decoder's weights, (B, P), with a copy for each example, so that their gradients stay separate.
    ``integrand``: maps a flat sample, (S, *R, B, D), and the weights, (*R, B, P), to log p(x|z), (S, *R, B).
    ``accuracy``: the error of the latents' own sampler relative to the gradient's norm, if it is not exact; a bias up
    to this is not a defect of the estimator.
    ``expectation``: computes L, (*R, B), from the parameters, the prior's parameters and the weights, if there is a
    closed form.
    ``layers``: the linear layers of a network whose weights are the latents, if the integrand is one.
    ``detectable``: the bias, relative to the gradient's norm, that the z-test must be able to see.

    The parameters of the prior are zeros (a standard normal, fair coins, ...) and learned. They are groups of their
    own, called ``prior loc`` and so on, with a copy for each example.
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
    layers: LinearLayers | None = None

    @property
    def bound(self) -> str:
        """``elbo`` or ``multi-sample``, as an estimator declares it."""
        return "elbo" if self.importance_samples == 1 else "multi-sample"

    @property
    def examples(self) -> int:
        """The number of examples, B."""
        return len(self.weights)

    def select(self, examples: list[int]) -> SmallProblem:
        """Return the problem with these examples only, in this order; one may come several times."""
        params = {name: value[examples] for name, value in self.params.items()}
        return dataclasses.replace(self, params=params, weights=self.weights[examples])

    @property
    def prior(self) -> dict[str, Tensor]:
        """The parameters of the prior by group, with the shapes of those of q."""
        return {PRIOR + name: torch.zeros_like(value) for name, value in self.params.items()}

    def leaf_tensors(
        self,
        *replicates: int,
        plain: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """Return the variational parameters, the weights and the prior's parameters as leaves of autograd.

        Each has shape (*replicates, B, ...); with ``plain`` (R B, ...), one batch of copies as in training.
        """
        values = {**self.params, WEIGHTS: self.weights, **self.prior}
        expanded = {name: value.expand(*replicates, *value.shape) for name, value in values.items()}
        if plain:
            expanded = {name: value.flatten(0, len(replicates)) for name, value in expanded.items()}
        return {
            name: value.to(device, dtype, copy=True).contiguous().requires_grad_() for name, value in expanded.items()
        }

    def objective(self, leaves: Parameters) -> Objective:
        """Return the objective at ``leaf_tensors``; examples and replicates share nothing."""
        params = {name: leaves[name] for name in self.params}
        prior = {name: leaves[PRIOR + name] for name in self.params}
        weights = leaves[WEIGHTS]
        # The observation is the same for all replicates.
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
            expectation if self.expectation or self.latents.name in QUADRATURE else None,
        )
        objective.linear_layers = self.layers
        return objective

    def exact_gradient(self) -> dict[str, Tensor]:
        """Return the exact gradient of L by group, (B, ...) each: row b is that of example b."""
        return dict(self._exact_gradient)

    @cached_property
    def _exact_gradient(self) -> dict[str, Tensor]:
        leaves = self.leaf_tensors()
        gradients = torch.autograd.grad(self.objective(leaves).exact().sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True))

    def gradient_norm(self, group: str) -> float:
        """Return the norm of the exact gradient of all variational parameters, or of all of the model's weights.

        It is the one that ``group`` belongs to.
        """
        names = list(self.params) if group in self.params else [WEIGHTS, *self.prior]
        return math.sqrt(sum(float(self._exact_gradient[name].square().sum()) for name in names))

    def _quadrature(self, objective: Objective) -> Tensor:
        """Return L for normal latents, (*R, B), by Gauss-Hermite quadrature over the noise."""
        count = self.importance_samples
        latents = objective.q.event_shape[0]
        abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
        axes = [torch.tensor(abscissae, dtype=torch.float64)] * (latents * count)
        noise = torch.cartesian_prod(*axes).view(-1, count, latents)
        mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * (latents * count)).view(len(noise), -1)
        probability = mass.prod(1)
        ones = [1] * len(objective.batch_shape)
        z = at_noise(objective.q, noise.view(-1, *ones, latents))  # (N * K, *R, B, D)
        if count == 1:
            values = objective.f(z) - objective.kl()
        else:
            log_weights = objective.log_weight(z).view(len(noise), count, *objective.batch_shape)
            values = log_weights.logsumexp(1) - math.log(count)
        return torch.einsum("n,n...->...", probability, values)


def at_noise(q: Distribution, noise: Tensor) -> Tensor:
    """Return the samples of normal latents that standard noise, (N, *1, D), is turned into: (N, *R, B, D)."""
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ noise[..., None])[..., 0]
    return q.mean + q.stddev * noise


def draw_inputs(latents: Latents, seed: int, examples: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Draw the outputs of an encoder, (B, outputs), and the weights of a decoder, (B, P), of moderate size."""
    generator = torch.Generator().manual_seed(seed)
    outputs, weights = (
        2 * torch.rand(examples, size, generator=generator, dtype=torch.float64) - 1
        for size in (latents.outputs, latents.inputs)
    )
    return outputs, weights + 0.3


def centre(problem: SmallProblem) -> SmallProblem:
    """Subtract from f its mean over the examples, which changes no gradient."""
    objective = problem.objective(problem.leaf_tensors())
    with torch.no_grad():
        mean = float((objective.exact() + objective.kl()).mean())
    expectation = problem.expectation
    return dataclasses.replace(
        problem,
        integrand=lambda z, w: problem.integrand(z, w) - mean,
        expectation=None if expectation is None else lambda q, p, w: expectation(q, p, w) - mean,
    )
