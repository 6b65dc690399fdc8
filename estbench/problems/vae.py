"""Variational autoencoders with Gaussian latents."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Generator, Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from estbench import datasets
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register
from estbench.validation import Options

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
Size = Annotated[int, Field(ge=1)]


@register("vae")
class VAE(Problem):
    r"""Gaussian VAE on binarised images (Kingma and Welling, 2014, arXiv:1312.6114).

        p(z) = N(0, I),   p(x|z) = prod_i Bernoulli(x_i; sigmoid(g_i(z))),   q(z|x) = N(mu(x), diag exp(2 s(x)))
        L(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z))   in nats, maximised

    ``loc`` = mu and ``log_scale`` = s are two heads of one multilayer perceptron, g is another, mirrored. Pixels are
    binarised dynamically: a fresh draw Bernoulli(intensity) at each access.
    """

    summary = "Gaussian VAE, multilayer perceptrons, Bernoulli likelihood on dynamically binarised images"
    latents = "normal"

    class Options(Options):
        """What may be chosen."""

        dataset: str = "mnist5k"
        latent_size: Size = 20
        hidden: tuple[Size, ...] = (200, 200)
        activation: Literal["tanh", "relu", "leaky_relu", "elu"] = "tanh"
        kl: Literal["analytic", "sampled"] = "analytic"

        @field_validator("dataset")
        @classmethod
        def _known(cls, value: str) -> str:
            datasets.REGISTRY.get(value)
            return value

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or VAE.Options()
        self.data = datasets.load(self.options.dataset)
        latents, hidden = self.options.latent_size, self.options.hidden
        self.encoder = _perceptron([self.data.size, *hidden, 2 * latents], self.options.activation)
        self.decoder = _perceptron([latents, *reversed(hidden), self.data.size], self.options.activation)
        self.prior_loc: Tensor
        self.prior_scale: Tensor
        self.register_buffer("prior_loc", torch.zeros(latents), persistent=False)
        self.register_buffer("prior_scale", torch.ones(latents), persistent=False)

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw pixels Bernoulli(intensity), (B, X) to (B, X)."""
        # The same law as torch.bernoulli, which takes three times as long on a CPU.
        return torch.rand(
            intensities.shape, generator=generator, device=intensities.device, dtype=intensities.dtype
        ).lt_(intensities)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """``loc`` and ``log_scale`` of q(z|x), each (B, D)."""
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        return {"loc": loc, "log_scale": log_scale}

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """L for observations x, (B, X), at variational parameters of (*R, B, D)."""

        def log_likelihood(z: Tensor) -> Tensor:
            logits = self.decoder(z)
            return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)

        def kl() -> Tensor:
            loc, log_scale = params["loc"], params["log_scale"]
            return 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum(-1)

        return Objective(params, _family, log_likelihood, self.prior, x, kl if self.options.kl == "analytic" else None)

    def prior(self) -> Distribution:
        """p(z) = N(0, I), event shape (D,)."""
        return _diagonal_normal(self.prior_loc, self.prior_scale)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Weights of the encoder and of the decoder; the prior has none."""
        return {"encoder": list(self.encoder.parameters()), "decoder": list(self.decoder.parameters())}


def _family(params: Mapping[str, Tensor]) -> Distribution:
    return _diagonal_normal(params["loc"], params["log_scale"].exp())


def _diagonal_normal(loc: Tensor, scale: Tensor) -> Distribution:
    # Argument checks would cost more than the distribution; a non-finite objective is caught by the training loop.
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


def _perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
