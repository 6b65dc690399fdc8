"""Score function with a first-order control variate around the mean of q."""

from __future__ import annotations

from torch import Tensor

from estbench.estimators._surrogates import gradient_carrier, value_and_grad
from estbench.estimators.base import Estimator, register
from estbench.estimators.score_function import score_function_surrogate
from estbench.problems import Objective


@register("muprop")
class MuProp(Estimator):
    r"""MuProp (Gu, Levine, Sutskever and Mnih, 2016, arXiv:1511.05176).

        grad E_q[f(z)] = E_q[(f(z) - f(m) - f'(m) . (z - m)) grad log q(z)] + f'(m) . grad m,   m = E_q[z]

    The score function works on the remainder of f after a Taylor expansion at the mean. The expectation of the
    expansion is known; without its gradient, the last term, the estimate would be biased. The pass at m gives the
    decoder no gradient, because m is not a sample of q.

    Requires bits or categories, and f with its derivative between their values, at m.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("muprop")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "score function on the remainder of a Taylor expansion of f at the mean"
    reference = "gu2016"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = True
    evaluations = 2

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((1,))
        f = objective.f(z, objective.frozen_q())
        mean = objective.q.mean
        center, f_gradient = value_and_grad(objective, mean[None])
        event_dims = len(objective.q.event_shape)
        linear = center + (f_gradient * (z - mean)).flatten(-event_dims).sum(-1)
        surrogate = score_function_surrogate(objective, z, f, f - linear)
        return surrogate + gradient_carrier(mean, f_gradient.squeeze(0), event_dims)
