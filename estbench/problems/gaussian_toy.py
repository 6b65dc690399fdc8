"""Expected costs of normal variables, with their gradients and the variances of three estimators in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.problems.problem import register
from estbench.problems.toy import Toy


@register("gaussian_toy")
class GaussianToy(Toy):
    r"""Expected cost of D independent normals (Mohamed et al., 2020, section 3, arXiv:1906.10652).

        L = -sum_i E[c(z_i)],   z_i ~ N(loc_i, exp(2 log_scale_i))

        quadratic     c(z) = (z - k)^2      E c = (loc - k)^2 + scale^2
        exponential   c(z) = exp(-k z^2)    E c = (1 + 2 k scale^2)^(-1/2) exp(-k loc^2 / (1 + 2 k scale^2))
        cosine        c(z) = cos(k z)       E c = exp(-k^2 scale^2 / 2) cos(k loc)

    ``problems.gaussian_toy_variance`` is the variance of single estimates in closed form, for D = 1.
    """

    summary = "expected quadratic, exponential or cosine cost of normal variables, all in closed form"
    latents = "normal"
    parameter_names = ("loc", "log_scale")

    class Options(BaseOptions):
        """What may be chosen; ``loc`` and ``scale`` are where q starts."""

        cost: Literal["quadratic", "exponential", "cosine"] = "quadratic"
        k: float = 0.5
        dimensions: Annotated[int, Field(ge=1)] = 1
        loc: float = 1.0
        scale: float = Field(default=1.0, gt=0)

        @model_validator(mode="after")
        def _finite(self) -> GaussianToy.Options:
            if self.cost == "exponential" and self.k < 0:
                raise ValueError(
                    f"cost=exponential takes k >= 0, for the mean of exp(-k z^2) to be finite; got {self.k}"
                )
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or GaussianToy.Options()
        size = self.options.dimensions
        self.family = NormalLatents(size)
        self.loc = nn.Parameter(torch.full((size,), self.options.loc))
        self.log_scale = nn.Parameter(torch.full((size,), math.log(self.options.scale)))

    def cost(self, z: Tensor) -> Tensor:
        k = self.options.k
        match self.options.cost:
            case "quadratic":
                costs = (z - k).square()
            case "exponential":
                costs = (-k * z.square()).exp()
            case "cosine":
                costs = (k * z).cos()
        return costs.sum(-1)

    def expected_cost(self, params: Mapping[str, Tensor]) -> Tensor:
        k, loc, variance = self.options.k, params["loc"], (2 * params["log_scale"]).exp()
        match self.options.cost:
            case "quadratic":
                costs = (loc - k).square() + variance
            case "exponential":
                spread = 1 + 2 * k * variance
                costs = (-k * loc.square() / spread).exp() * spread.rsqrt()
            case "cosine":
                costs = (-0.5 * k**2 * variance).exp() * (k * loc).cos()
        return costs.sum(-1)
