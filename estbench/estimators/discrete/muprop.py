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

    The score function works on what is left of f after a Taylor expansion at the mean; the expectation of the
    expansion is known, and without its gradient, the last term, the estimate would be biased. f is asked for its
    value between the corners. The mean field's pass gives the decoder no gradient: m is no sample of q.
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
        center, slope = value_and_grad(objective, mean[None])
        event_dims = len(objective.q.event_shape)
        linear = center + (slope * (z - mean)).flatten(-event_dims).sum(-1)
        return score_function_surrogate(objective, z, f, f - linear) + gradient_carrier(mean, slope.squeeze(0), event_dims)
