"""Expected costs of bits, with their gradients and the variances of four estimators in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from estbench.latents import BernoulliLatents
from estbench.options import BaseOptions
from estbench.problems.problem import register
from estbench.problems.toy import Toy


@register("bernoulli_toy")
class BernoulliToy(Toy):
    r"""Expected cost of D independent bits (Tucker et al., 2017, arXiv:1703.07370).

        L = -sum_i E|b_i - t|^p,   b_i ~ Bernoulli(theta_i),   theta = sigmoid(logits)
        E|b - t|^p = theta (1 - t)^p + (1 - theta) t^p

    One bit and p = 2 with t = 0.45 is the toy of REBAR, t = 0.499 that of RELAX, t = 0.49 that of ARM; the nearer t is
    to 1/2, the smaller the difference between the two costs. 128 bits and p = 1.5, 2 or 3 is that of ReinMax. Costs
    are summed over bits. The cost is defined for relaxed bits too.

    ``problems.bernoulli_toy_variance`` is the variance of single estimates in closed form, for D = 1.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("bernoulli_toy[target=0.45,bits=1]")
    >>> objective = problem(torch.zeros(4, 1))  # 4 independent copies of the toy
    >>> objective.exact().detach()
    tensor([-0.2525, -0.2525, -0.2525, -0.2525])
    """

    summary = "expected cost |b - t|^p of bits, in closed form"
    latents = "bernoulli"
    parameter_names = ("logits",)

    class Options(BaseOptions):
        """Options of ``bernoulli_toy``."""

        target: float = Field(default=0.45, ge=0, le=1, description="t, the value that a bit should have")
        power: float = Field(default=2.0, ge=1, description="p, the power of the distance to t")
        bits: int = Field(default=1, ge=1, description="D, the number of bits")
        theta: float = Field(default=0.5, gt=0, lt=1, description="the probability of a one at which every bit starts")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or BernoulliToy.Options()
        theta, size = self.options.theta, self.options.bits
        self.family = BernoulliLatents(size)
        self.logits = nn.Parameter(torch.full((size,), math.log(theta) - math.log1p(-theta)))

    def cost(self, z: Tensor) -> Tensor:
        return (z - self.options.target).abs().pow(self.options.power).sum(-1)

    def expected_cost(self, params: Mapping[str, Tensor]) -> Tensor:
        theta, (one, zero) = params["logits"].sigmoid(), _costs(self.options.target, self.options.power)
        return (theta * one + (1 - theta) * zero).sum(-1)


Estimator = Literal["reinforce", "rloo", "arm", "disarm"]


def variance(estimator: Estimator, theta: float, target: float, power: float = 2.0) -> float:
    r"""Return the variance of one estimate of d E[f(b)] / d logit for one bit, f(b) = |b - t|^p.

    With D = f(1) - f(0), p = theta (1 - theta), m = min(theta, 1 - theta) and M = 1 - m; all but ``reinforce`` take
    two evaluations:

        reinforce   p ((1 - theta) f(1) + theta f(0))^2
        rloo        D^2 p (1 - 2 p) / 2
        arm         (2/3) D^2 (1/8 - (1/2 - m)^3) - D^2 p^2      (Yin and Zhou, 2019)
        disarm      D^2 M^2 m (1 - 2 m) / 2                      (Dong, Mnih and Tucker, 2020)

    Examples
    --------
    >>> from estbench.problems.bernoulli_toy import variance
    >>> round(variance("rloo", theta=0.5, target=0.45), 6), variance("disarm", theta=0.5, target=0.45)
    (0.000625, 0.0)
    """
    one, zero = _costs(target, power)
    d2, p = (one - zero) ** 2, theta * (1 - theta)
    m = min(theta, 1 - theta)
    match estimator:
        case "reinforce":
            return p * ((1 - theta) * one + theta * zero) ** 2
        case "rloo":
            return d2 * p * (1 - 2 * p) / 2
        case "arm":
            return 2 / 3 * d2 * (1 / 8 - (1 / 2 - m) ** 3) - d2 * p**2
        case "disarm":
            return d2 * (1 - m) ** 2 * m * (1 - 2 * m) / 2


def _costs(target: float, power: float) -> tuple[float, float]:
    """Return |b - t|^p for b = 1 and b = 0."""
    return math.pow(1 - target, power), math.pow(target, power)
