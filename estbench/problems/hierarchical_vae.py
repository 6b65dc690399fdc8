"""Variational autoencoders with two layers of bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from estbench.datasets import data_id
from estbench.datasets import load as load_dataset
from estbench.latents import BernoulliLatents
from estbench.options import BaseOptions
from estbench.problems.networks import Activation, ImageData, Size, binarised, perceptron, pixel_log_likelihood
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register
from estbench.problems.two_layers import TwoLayerObjective


@register("hierarchical_vae")
class HierarchicalVAE(Problem):
    r"""Two stochastic layers of Bernoulli latents, on binarised images (Tucker et al., 2017, arXiv:1703.07370).

        p(x, b1, b2) = p(b2) p(b1|b2) p(x|b1),   q(b1, b2|x) = q(b1|x) q(b2|b1)
        L(x) = E_q[log p(x, b1, b2) - log q(b1, b2|x)]   in nats, maximised

    Each conditional is a perceptron, from its condition to logits: linear where ``hidden=[]`` (a sigmoid belief
    network), with deterministic layers of these sizes in between otherwise, in reversed order for p. Both layers have
    ``latent_size`` bits; ``coding=signed`` gives the perceptrons 2b - 1 in place of b. p(b2) are fair coins;
    ``prior=learned`` makes their logits weights, which start from there.

    Gradients are estimated layer by layer, by an instance of the estimator for each: see ``TwoLayerObjective``. The
    entropy of q(b1|x) and KL(q(b2|b1) || p(b2)) are analytic; a learned baseline of the second layer sees b1. A probe's
    parameter space is that of the logits of q(b1|x).

    Estimators that differentiate f do so in one layer at a time. The control variates of ``rebar``, ``relax`` and
    ``muprop`` relax only b1, or only b2. In their papers one pass goes through both layers and relaxes b2 with b1. The
    gradient of their temperatures lacks a part of the second layer's curvature, because an estimate of that layer's
    gradient does not have it. Neither is a bias.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("hierarchical_vae[dataset=digits,hidden=[],latent_size=3]")
    >>> estimator = estimators.create_for("disarm", problem)  # an instance for each layer
    >>> x = torch.zeros(5, 64)
    >>> estimator(problem(x)).shape
    torch.Size([5])
    """

    summary = "VAE with two layers of Bernoulli latents, linear or not, on dynamically binarised images"
    latents = "bernoulli"
    layers = 2

    class Options(BaseOptions):
        """Options of ``hierarchical_vae``; sizes are those of both layers."""

        dataset: ImageData = Field(default="mnist5k", description="the images, by name")
        latent_size: Size = Field(default=20, description="D, the number of bits in each layer")
        hidden: tuple[Size, ...] = Field(default=(200,), description="units of each hidden layer; [] for linear maps")
        activation: Activation = Field(default="tanh", description="the activation of hidden layers")
        prior: Literal["fixed", "learned"] = Field(
            default="fixed", description="whether the logits of p(b2) are learned"
        )
        coding: Literal["binary", "signed"] = Field(
            default="binary", description="what perceptrons see of bits b: b (binary), or 2b - 1 (signed)"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or HierarchicalVAE.Options()
        self.data = load_dataset(self.options.dataset)
        size, hidden, activation = self.options.latent_size, self.options.hidden, self.options.activation
        self.family = BernoulliLatents(size)
        self.encoder = perceptron([self.data.size, *hidden, size], activation)  # q(b1|x)
        self.second_encoder = perceptron([size, *hidden, size], activation)  # q(b2|b1)
        self.second_decoder = perceptron([size, *reversed(hidden), size], activation)  # p(b1|b2)
        self.decoder = perceptron([size, *reversed(hidden), self.data.size], activation)  # p(x|b1)
        self.learned_prior = nn.Parameter(torch.zeros(size)) if self.options.prior == "learned" else None

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"{data_id(options.dataset)}-bernoulli-bernoulli-{options.prior}-{options.coding}"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw pixels Bernoulli(intensity), (B, X) to (B, X)."""
        return binarised(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of q(b1|x), (B, D), for observations x, (B, X)."""
        return {"logits": self.encoder(x)}

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> TwoLayerObjective:
        """Return L for observations x, (B, X), at logits of q(b1|x) of (*R, B, D)."""

        def log_likelihood(bits: Tensor) -> Tensor:
            return pixel_log_likelihood(self.decoder(self._coded(bits)), x)

        return TwoLayerObjective(params, self.family.family, log_likelihood, self._second_objective, x)

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|b1], (N, D) to (N, X)."""
        return self.decoder(self._coded(z)).sigmoid()  # type: ignore[no-any-return]

    def sample_prior(self, count: int) -> Tensor:
        """Draw bits b1 from p(b2) p(b1|b2), (count, D)."""
        second = self.family.family(self._prior_parameters()).sample((count,))
        return self.family.family({"logits": self.second_decoder(self._coded(second))}).sample()

    def _second_objective(self, bits: Tensor) -> Objective:
        """Return E_{q(b2|b1)}[log p(b1|b2)] - KL(q(b2|b1) || p(b2)) at bits b1, (S, *R, B, D), relaxed or not."""
        params, prior = {"logits": self.second_encoder(self._coded(bits))}, self._prior_parameters()

        def log_likelihood(second: Tensor) -> Tensor:
            logits = self.second_decoder(self._coded(second))
            return self.family.family({"logits": logits}).log_prob(bits)

        return Objective(
            params,
            self.family.family,
            log_likelihood,
            lambda: self.family.family(prior),
            bits.detach(),
            lambda: self.family.kl(params, prior),
        )

    def _coded(self, bits: Tensor) -> Tensor:
        return 2 * bits - 1 if self.options.coding == "signed" else bits

    def _prior_parameters(self) -> dict[str, Tensor]:
        """Return the logits of p(b2), (D,)."""
        if self.learned_prior is not None:
            return {"logits": self.learned_prior}
        weight = next(self.decoder.parameters())
        return {"logits": torch.zeros(self.options.latent_size, dtype=weight.dtype, device=weight.device)}
