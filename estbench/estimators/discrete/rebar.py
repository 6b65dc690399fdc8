"""REBAR: the score function of f less a relaxed f, and the pathwise gradient of the relaxed f."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from estbench.estimators._noise import is_categorical, noise_pair
from estbench.estimators._surrogates import gradient_surrogate, variance_loss
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("rebar")
class Rebar(Estimator):
    r"""REBAR (Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, 2017, arXiv:1703.07370), in logit space.

        z = phi + noise,   b = H(z),   z~ ~ p(z|b),   c(z) = eta f(sigma(z / lambda))
        grad E_q[f] = E[(f(b) - c(z~)) grad log q(b) + grad c(z) - grad c(z~)]

    for bits (logistic noise, H the sign, sigma the sigmoid) and for categoricals (Gumbel noise, H the argmax, sigma
    the softmax). z~ is a second draw of the noise *given* b: its score term cancels that of c(z). It depends on phi;
    taken as a constant, it would bias the estimate.

    The scale eta and the temperature lambda start from 1 and from ``temperature``, and learn to make the variance
    small. The decoder's gradient comes only from b.

    Requires bits or categories, and f with its derivative between their values; with a sampled KL also log q there, at
    detached parameters.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("rebar")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "score function, with a relaxed f as the control variate; learned temperature and scale"
    reference = "tucker2017"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = True
    evaluations = 3

    class Options(BaseOptions):
        """Options of ``rebar``."""

        temperature: float = Field(default=0.5, gt=0, description="lambda at the start; it is learned")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.options.temperature)))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, objective: Objective) -> Tensor:
        def control(noise: Tensor) -> Tensor:
            return self.log_scale.exp() * relaxed_f(objective, noise, self.log_temperature.exp())

        return control_variate_surrogate(self, objective, control)


def relaxed_f(objective: Objective, noise: Tensor, temperature: Tensor) -> Tensor:
    """Return f(sigma(z / lambda)), (S, *B, *event) to (S, *B), live in the noise and in the temperature."""
    scaled = noise / temperature
    relaxed = scaled.softmax(-1) if is_categorical(objective.q) else scaled.sigmoid()
    return objective.f(relaxed, objective.frozen_q())


def control_variate_surrogate(
    estimator: Estimator, objective: Objective, control: Callable[[Tensor], Tensor]
) -> Tensor:
    r"""Return the surrogate of (f(b) - c(z~)) grad log q(b) + grad c(z) - grad c(z~), per example, (*B).

    ``control`` is c, (S, *B, *event) to (S, *B). In training mode the estimator's parameters descend the variance, so
    the gradient is then a tensor that is live in them.
    """
    # A separate leaf: the control's gradient is taken only for it, and reaches neither encoder nor decoder.
    logits = objective.params["logits"].detach().requires_grad_()
    sample, noise, noise_given = noise_pair(objective, logits)
    f = objective.f(sample[None], objective.frozen_q())
    c, c_given = control(torch.stack([noise, noise_given]))
    (pathwise,) = torch.autograd.grad((c - c_given).sum(), logits, create_graph=estimator.training)
    event_dims = len(objective.q.event_shape)
    signal = (f.detach().squeeze(0) - c_given).view(*objective.batch_shape, *[1] * event_dims)
    gradient = signal * (sample - objective.q.mean.detach()) + pathwise
    surrogate = gradient_surrogate(objective, f, gradient)
    if estimator.training:
        surrogate = surrogate + variance_loss([gradient], estimator.parameters(), objective.batch_shape)
    return surrogate
