"""RELAX: REBAR with a network added to its control variate."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from estbench.estimators._control import check_prepared, control_network, control_value
from estbench.estimators.base import Estimator, register
from estbench.estimators.discrete.rebar import control_variate_surrogate, relaxed_f
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("relax")
class Relax(Estimator):
    r"""RELAX (Grathwohl, Choi, Wu, Roeder and Duvenaud, 2018, arXiv:1711.00123), in logit space.

        c(z) = eta f(sigma(z / lambda)) + r_rho(z, x)
        grad E_q[f] = E[(f(b) - c(z~)) grad log q(b) + grad c(z) - grad c(z~)],   z~ ~ p(z|b)

    for bits and for categoricals. Any function would do for c; this one is REBAR's plus a tanh network of the noise
    and of the input, if there is one. Temperature, scale and network learn to make the variance small, which takes a
    derivative of the gradient estimate in them.

    For categoricals z~ must be drawn given the argmax: the largest coordinate first, the others below it.

    Requires bits or categories, and f with its derivative between their values; and a call of ``prepare`` before use,
    without which it raises ``EstbenchError``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimator = estimators.create("relax")
    >>> estimator.prepare(objective)  # builds its network
    >>> estimator(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "REBAR with a learned network in the control variate"
    reference = "grathwohl2018"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = True
    evaluations = 3

    class Options(BaseOptions):
        """Options of ``relax``."""

        temperature: float = Field(default=0.5, gt=0, description="lambda at the start; it is learned")
        hidden: int = Field(default=100, ge=1, description="hidden units of the network")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.options.temperature)))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def prepare(self, objective: Objective) -> None:
        self.network = control_network(objective, self.options.hidden)

    def forward(self, objective: Objective) -> Tensor:
        check_prepared(self, "relax")

        def control(noise: Tensor) -> Tensor:
            relaxed = self.log_scale.exp() * relaxed_f(objective, noise, self.log_temperature.exp())
            return relaxed + control_value(self.network, objective, noise)

        return control_variate_surrogate(self, objective, control)
