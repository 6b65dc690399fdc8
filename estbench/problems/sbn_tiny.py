"""Small discrete VAEs whose gradient is known exactly, as a sum over everything that q can draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Generator, Tensor

from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems.objective import ENUMERABLE, Objective
from estbench.problems.problem import Problem, register
from estbench.problems.vae import VAE


@register("sbn_tiny")
class TinySBN(Problem):
    r"""A sigmoid belief network small enough for its gradient to be enumerated (Neal, 1992), on 8 x 8 digits.

        L(x) = sum_z q(z|x) (log p(x|z) + log p(z) - log q(z|x))

    It is the linear ``vae`` on scikit-learn's digits with ``latent_size`` bits, or one-hot vectors of ``categories``.
    ``Objective.exact`` sums over all their values, at most 4,096 of them (12 bits); with ``importance_samples`` = K,
    over all K-tuples of values, at most as many.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("sbn_tiny[latent_size=4]")
    >>> problem(torch.zeros(5, 64)).exact().shape  # L of 5 images of 64 pixels, in nats
    torch.Size([5])
    """

    summary = "tiny VAE with Bernoulli or categorical latents on digits; exact gradient by enumeration"
    latents = "bernoulli"

    class Options(BaseOptions):
        """Options of ``sbn_tiny``."""

        latents: Literal["bernoulli", "categorical"] = Field(default="bernoulli", description="the family of q and p")
        latent_size: int = Field(default=6, ge=1, description="D, the number of bits or of one-hot vectors")
        categories: int = Field(default=4, ge=2, description="C, for latents=categorical")
        kl: Literal["analytic", "sampled"] = Field(
            default="analytic", description="whether the KL of the ELBO is in closed form or sampled"
        )
        importance_samples: int = Field(default=1, ge=1, description="K; 1 for the ELBO, more for the bound L_K")

        @model_validator(mode="after")
        def _enumerable(self) -> TinySBN.Options:
            count = self.importance_samples
            refuse_without_effect(
                self,
                {
                    "categories": "latents=bernoulli" if self.latents == "bernoulli" else "",
                    "kl": f"importance_samples={count}" if count > 1 else "",
                },
            )
            base = 2 if self.latents == "bernoulli" else self.categories
            # In powers, so that absurd sizes cost nothing.
            if base ** min(self.latent_size * self.importance_samples, 64) > ENUMERABLE:
                raise ValueError(
                    f"{base}^{self.latent_size * self.importance_samples} values are too many to enumerate;"
                    f" at most {ENUMERABLE}: take fewer latents, categories or importance samples"
                )
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or TinySBN.Options()
        idle = {"categories"} if self.options.latents == "bernoulli" else set()
        self.vae = VAE(VAE.Options(dataset="digits", hidden=(), **self.options.model_dump(exclude=idle)))
        self.data = self.vae.data

    @classmethod
    def latents_of(cls, options: Any) -> str:
        return str(options.latents)

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return VAE.bound_of(options)

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return self.vae.observe(intensities, generator)

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        return self.vae.encode(x)

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        return self.vae.objective(params, x)
