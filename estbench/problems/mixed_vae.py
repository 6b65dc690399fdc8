"""A variational autoencoder with a discrete and a continuous latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from estbench.datasets import data_id
from estbench.datasets import load as load_dataset
from estbench.latents import NormalLatents, make_latents
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems.networks import Activation, ImageData, Size, perceptron
from estbench.problems.objective import Objective
from estbench.problems.parts import PRIORS
from estbench.problems.pixels import binarised, of_bytes, pixel_log_likelihood
from estbench.problems.priors import FamilyPrior
from estbench.problems.problem import Problem, register
from estbench.problems.two_layers import TwoLayerObjective


@register("mixed_vae")
class MixedVAE(Problem):
    r"""A discrete latent y and a continuous one z, on binarised images (Kingma et al., 2014, arXiv:1406.5298).

        p(x, y, z) = p(y) p(z) p(x|y, z),   q(y, z|x) = q(y|x) q(z|x, y)
        L(x) = E_q[log p(x|y, z)] - KL(q(y|x) || p(y)) - E_{q(y|x)}[KL(q(z|x, y) || p(z))]   in nats, maximised

    As in the paper's second model, and no labels are seen: y are ``discrete_size`` one-hot vectors or bits, which may
    become the class of an image, and z are ``continuous_size`` normal latents, its style. Each conditional is a
    perceptron of ``hidden`` units. p(y) is uniform and p(z) = N(0, I); ``prior=learned`` makes their parameters
    weights, which start from there.

    Each latent has an estimator: ``per_latent[y=rloo,z=reparam]``; see ``TwoLayerObjective``. Both KL are analytic. A
    learned baseline of z sees x and y. A probe's parameter space is that of q(y|x).

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("mixed_vae[dataset=digits,hidden=[8],continuous_size=2]")
    >>> estimator = estimators.create_for("per_latent[y=rloo,z=stl]", problem)
    >>> estimator(problem(torch.zeros(5, 64))).shape
    torch.Size([5])
    """

    summary = "VAE with a discrete and a normal latent, each with an estimator, on dynamically binarised images"
    latents = "categorical and normal"

    class Options(BaseOptions):
        """Options of ``mixed_vae``."""

        dataset: ImageData = Field(default="mnist5k", description="the images, by name or as file:PATH")
        discrete: Literal["categorical", "bernoulli"] = Field(default="categorical", description="the family of y")
        discrete_size: Size = Field(default=1, description="the number of one-hot vectors or bits of y")
        categories: int = Field(default=10, ge=2, description="C, for discrete=categorical")
        continuous_size: Size = Field(default=10, description="the number of normal latents z")
        hidden: tuple[Size, ...] = Field(default=(200,), description="units of each hidden layer; [] for linear maps")
        activation: Activation = Field(default="tanh", description="the activation of hidden layers")
        prior: Literal["fixed", "learned"] = Field(
            default="fixed", description="whether the parameters of p(y) and p(z) are learned"
        )

        @model_validator(mode="after")
        def _applicable(self) -> MixedVAE.Options:
            refuse_without_effect(self, {"categories": "discrete=bernoulli" if self.discrete == "bernoulli" else ""})
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or MixedVAE.Options()
        self.data = load_dataset(self.options.dataset)
        hidden, activation = self.options.hidden, self.options.activation
        self.discrete = make_latents(self.options.discrete, self.options.discrete_size, self.options.categories)
        self.continuous = NormalLatents(self.options.continuous_size)
        y, z, pixels = self.discrete.inputs, self.continuous.inputs, self.data.size
        self.encoder = perceptron([pixels, *hidden, self.discrete.outputs], activation)  # q(y|x)
        self.second_encoder = perceptron([pixels + y, *hidden, self.continuous.outputs], activation)  # q(z|x,y)
        self.decoder = perceptron([y + z, *reversed(hidden), pixels], activation)  # p(x|y,z)
        self.prior: FamilyPrior = PRIORS.build(self.options.prior, self.discrete, self.data)
        self.second_prior: FamilyPrior = PRIORS.build(self.options.prior, self.continuous, self.data)

    @classmethod
    def latents_by_name(cls, options: Any) -> dict[str, str]:
        return {"y": options.discrete, "z": "normal"}

    @classmethod
    def latents_of(cls, options: Any) -> str:
        return f"{options.discrete} and normal"

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"{data_id(options.dataset)}-{options.discrete}-normal-{options.prior}"

    @of_bytes
    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw pixels Bernoulli(intensity), (B, X) to (B, X)."""
        return binarised(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q(y|x), (B, D) or (B, D, C), for observations x, (B, X)."""
        return self.discrete.split(self.encoder(x))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> TwoLayerObjective:
        """Return L for observations x, (B, X), at parameters of q(y|x) of (*R, B, D)."""
        return TwoLayerObjective(
            params,
            self.discrete.family,
            None,
            lambda y: self._second_objective(y, x),
            self.continuous,
            x,
            self.prior,
            lambda: self.discrete.kl(params, self.prior.params),
            self.kl_weight,
        )

    def _second_objective(self, y: Tensor, x: Tensor) -> Objective:
        """Return E_{q(z|x,y)}[log p(x|y,z)] - KL(q(z|x,y) || p(z)) at y, (S, *R, B, D), relaxed or not."""
        code = self.discrete.flat(y)
        seen = torch.cat([x.expand(*code.shape[:-1], -1), code], -1)
        params = self.continuous.split(self.second_encoder(seen))

        def log_likelihood(z: Tensor) -> Tensor:
            return pixel_log_likelihood(self._logits(code, z), x)

        return Objective(
            params,
            self.continuous.family,
            log_likelihood,
            self.second_prior,
            seen.detach(),
            lambda: self.continuous.kl(params, self.second_prior.params),
        )

    def _logits(self, code: Tensor, z: Tensor) -> Tensor:
        """Return logits of pixels at y, (*B, D C), and z, (S, *B, D)."""
        return self.decoder(torch.cat([code.expand(*z.shape[:-1], -1), z], -1))  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|y,z] of y and z side by side, (N, D C + D) to (N, X)."""
        return self.decoder(z).sigmoid()  # type: ignore[no-any-return]

    def sample_prior(self, count: int) -> Tensor:
        """Draw y and z from p(y) p(z), side by side: (count, D C + D)."""
        y = self.discrete.flat(self.prior().sample((count,)))
        return torch.cat([y, self.second_prior().sample((count,))], -1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean image of one draw from q(y, z|x) for each observation, (N, X) to (N, X)."""
        y = self(x).q.sample()
        return self.decode(torch.cat([self.discrete.flat(y), self._second_objective(y, x).q.sample()], -1))
