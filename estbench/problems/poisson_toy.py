"""Expected costs of counts, with their gradients in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from estbench.latents import PoissonLatents
from estbench.options import BaseOptions
from estbench.problems.problem import register
from estbench.problems.toy import Toy


@register("poisson_toy")
class PoissonToy(Toy):
    r"""Expected cost of D independent Poisson counts, such as the spikes of D neurons in a window of time.

        L = -sum_i E[c(z_i)],   z_i ~ Poisson(rate_i),   rate = exp(log_rate)

        quadratic     c(z) = (z - k)^2     E c = (rate - k)^2 + rate
        exponential   c(z) = exp(-k z)     E c = exp(-rate (1 - exp(-k)))
        cosine        c(z) = cos(k z)      E c = exp(-rate (1 - cos k)) cos(rate sin k)

    The last two come from E[s^z] = exp(rate (s - 1)). Costs are defined between the counts too. With a quadratic cost
    the rate of least cost is k - 1/2, not k: a larger rate is a larger variance.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("poisson_toy[k=3,rate=2]")
    >>> objective = problem(torch.zeros(4, 1))  # 4 independent copies of the toy
    >>> objective.exact().detach()  # -((2 - 3)^2 + 2)
    tensor([-3., -3., -3., -3.])
    """

    summary = "expected quadratic, exponential or cosine cost of Poisson counts, all in closed form"
    latents = "poisson"
    parameter_names = ("log_rate",)

    class Options(BaseOptions):
        """Options of ``poisson_toy``."""

        cost: Literal["quadratic", "exponential", "cosine"] = Field(default="quadratic", description="c, the cost")
        k: float = Field(default=3.0, description="the constant k of the cost; at least 0 for cost=exponential")
        dimensions: int = Field(default=1, ge=1, description="D, the number of counts")
        rate: float = Field(default=2.0, gt=0, description="the rate at which q starts")

        @model_validator(mode="after")
        def _bounded(self) -> PoissonToy.Options:
            if self.cost == "exponential" and self.k < 0:
                raise ValueError(f"cost=exponential takes k >= 0, because its variance must stay small; got {self.k}")
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or PoissonToy.Options()
        self.family = PoissonLatents(self.options.dimensions)
        self.log_rate = nn.Parameter(torch.full((self.options.dimensions,), math.log(self.options.rate)))

    def cost(self, z: Tensor) -> Tensor:
        k = self.options.k
        match self.options.cost:
            case "quadratic":
                costs = (z - k).square()
            case "exponential":
                costs = (-k * z).exp()
            case "cosine":
                costs = (k * z).cos()
        return costs.sum(-1)

    def expected_cost(self, params: Mapping[str, Tensor]) -> Tensor:
        k, rate = self.options.k, params["log_rate"].exp()
        match self.options.cost:
            case "quadratic":
                costs = (rate - k).square() + rate
            case "exponential":
                costs = (rate * math.expm1(-k)).exp()
            case "cosine":
                costs = (rate * (math.cos(k) - 1)).exp() * (rate * math.sin(k)).cos()
        return costs.sum(-1)
