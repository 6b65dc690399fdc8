"""The straight-through gradient: the sample is differentiated as if it were its mean."""

from __future__ import annotations

from torch import Tensor

from estbench.estimators._surrogates import gradient_carrier, value_and_grad
from estbench.estimators.base import Estimator, register
from estbench.problems import Objective


@register("straight-through")
class StraightThrough(Estimator):
    r"""Straight-through (Bengio, Leonard and Courville, 2013, arXiv:1308.3432).

        z ~ q,   grad ~ f'(z) . dm/dphi,   m = E_q[z]

    The gradient at the sample is passed on as if the sample were its mean: through theta (1 - theta) for bits,
    through J(p) = diag(p) - p p' for a softmax. Exact if f is linear in z, biased otherwise.

    Requires bits or categories, and the derivative of f at their values.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("straight-through")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=1)  # biased: the exact one is -0.16
    tensor([-0.3000])
    """

    summary = "the gradient at the sample, passed on to the mean as if the two were the same"
    reference = "bengio2013"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective: Objective) -> Tensor:
        f, f_gradient = value_and_grad(objective, objective.q.sample((1,)))
        mean = objective.q.mean
        return f.mean(0) + gradient_carrier(mean, f_gradient.mean(0), len(objective.q.event_shape)) - objective.kl()
