"""Gapped straight-through: logits at which the drawn category leads, without noise."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, to_one_hot
from estbench.estimators._surrogates import softmax_jacobian, straight_through_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("gapped-st")
class GappedST(Estimator):
    r"""Gapped straight-through (Fan, Chi, Rudnicky and Ramadge, 2022, arXiv:2206.07235).

        z ~ q,   top = max_c eta_c
        m_c = top - eta_c               where z_c = 1: the drawn category is raised to the top
        m_c = -max(0, eta_c + gap - top)  elsewhere: the others stay at least ``gap`` below it
        dz/deta := J(softmax((eta + m) / tau)) / tau,   m held fixed

    Given z there is no noise left, so the variance is below that of ``st-gumbel``. Biased; as tau goes to 0 the
    gradient vanishes.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("bernoulli_toy[bits=3]")(torch.zeros(5, 1))  # 5 independent copies of the toy
    >>> estimators.create("gapped-st[gap=0.5]")(objective).shape
    torch.Size([5])
    """

    summary = "hard sample, with the softmax Jacobian at logits where that sample leads by a gap"
    reference = "fan2022"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    scheduled = frozenset({"temperature"})

    class Options(BaseOptions):
        """Options of ``gapped-st``."""

        temperature: float = Field(default=1.0, gt=0, description="tau, of the softmax in the Jacobian")
        gap: float = Field(default=1.0, ge=0, description="how far the other logits stay below the drawn one")

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        p = torch.softmax(gapped_logits(logits, hard, self.options.gap) / self.options.temperature, -1)
        return straight_through_surrogate(objective, hard, softmax_jacobian(p, logits) / self.options.temperature)


def gapped_logits(logits: Tensor, hard: Tensor, gap: float) -> Tensor:
    """Return the logits eta + m, (S, *R, B, D, C), at which the drawn category leads by ``gap``."""
    top = logits.amax(-1, keepdim=True)
    return torch.where(hard.bool(), top, torch.minimum(logits, top - gap))
