"""Correct estimators that the mutants are made from."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.estimators import Estimator
from estbench.estimators.score_function import leave_one_out_mean, score_function_surrogate


class Correct(Estimator):
    """RLOO without a defect, with the declared facts that the mutants share."""

    name = "mutant"
    summary = "a mutant"
    supports = frozenset({"normal", "bernoulli"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = 4

    def draw(self, objective):
        z = objective.q.sample((4,))
        return z, objective.f(z, objective.frozen_q())

    def forward(self, objective):
        z, f = self.draw(objective)
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))


class Bits(Correct):
    """Score function of four bits' samples, made from uniforms that subclasses choose."""

    supports = frozenset({"bernoulli"})

    def uniforms(self, like: Tensor) -> Tensor:
        return torch.rand(4, *like.shape, dtype=like.dtype, device=like.device)

    def forward(self, objective):
        logits = objective.params["logits"]
        z = (self.uniforms(logits) < logits.sigmoid()).to(logits.dtype).detach()
        f = objective.f(z, objective.frozen_q())
        return self.surrogate(objective, z, f)

    def surrogate(self, objective, z, f):
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))


class Counts(Bits):
    """Counts its training steps."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, objective):
        if self.training:
            self.steps += 1
        return super().forward(objective)
