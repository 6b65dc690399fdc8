"""The straight-through gradient: rounding counts as the identity."""

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
    through J(p) = diag(p) - p p' for a softmax. Exact where f is linear in z, biased where it is not. f is called at
    the corners, and its slope there is taken.
    """

    summary = "the gradient at the sample, passed on to the mean as if the two were the same"
    reference = "bengio2013"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective: Objective) -> Tensor:
        f, slope = value_and_grad(objective, objective.q.sample((1,)))
        mean = objective.q.mean
        return f.mean(0) + gradient_carrier(mean, slope.mean(0), len(objective.q.event_shape)) - objective.kl()
