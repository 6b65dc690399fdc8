"""Expected costs of normal variables, with their gradients and the variances of three estimators in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

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

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("gaussian_toy[cost=quadratic,k=0.5]")
    >>> objective = problem(torch.zeros(4, 1))  # 4 independent copies of the toy
    >>> objective.exact().detach()  # -((1 - 0.5)^2 + 1)
    tensor([-1.2500, -1.2500, -1.2500, -1.2500])
    """

    summary = "expected quadratic, exponential or cosine cost of normal variables, all in closed form"
    latents = "normal"
    parameter_names = ("loc", "log_scale")

    class Options(BaseOptions):
        """Options of ``gaussian_toy``."""

        cost: Literal["quadratic", "exponential", "cosine"] = Field(default="quadratic", description="c, the cost")
        k: float = Field(default=0.5, description="the constant k of the cost; at least 0 for cost=exponential")
        dimensions: int = Field(default=1, ge=1, description="D, the number of normal variables")
        loc: float = Field(default=1.0, description="the mean at which q starts")
        scale: float = Field(default=1.0, gt=0, description="the standard deviation at which q starts")

        @model_validator(mode="after")
        def _finite(self) -> GaussianToy.Options:
            if self.cost == "exponential" and self.k < 0:
                raise ValueError(
                    f"cost=exponential takes k >= 0, because the mean of exp(-k z^2) must be finite; got {self.k}"
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
