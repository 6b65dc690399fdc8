"""What straight-through estimators share: f at a hard sample, with a Jacobian of choice behind the sample."""

from __future__ import annotations

from torch import Tensor

from estbench.estimators._categories import events
from estbench.problems import Objective


def softmax_jacobian(p: Tensor, logits: Tensor) -> Tensor:
    r"""A tensor whose Jacobian in the logits is J(p) = diag p - p p', for any fixed p: both (..., C).

    With p = softmax(logits) it is the softmax's own; its value means nothing.
    """
    p = p.detach()
    return p * (logits - (p * logits).sum(-1, keepdim=True))


def straight_through_surrogate(objective: Objective, hard: Tensor, tangent: Tensor) -> Tensor:
    """f at the hard sample, whose Jacobian in the logits is that of ``tangent``; both (S, *R, B, D, C).

    The value, and with it the gradient of the model's own weights, is that of f(hard). The direct gradient of -log q
    in a sampled KL has mean zero and is left out.
    """
    z = events(objective, hard + (tangent - tangent.detach()))
    return objective.f(z, objective.frozen_q()).mean(0) - objective.kl()
