"""Surrogates of estimators that know their gradient as a tensor, and f with its slope at a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.problems import Objective


def gradient_surrogate(objective: Objective, f: Tensor, gradient: Tensor) -> Tensor:
    """f averaged over samples, plus a given gradient with respect to the logits, less the analytic KL.

    f is (S, *batch) and carries the gradient of the model's own weights; ``gradient`` has the shape of the logits and
    carries nothing: how it was made leaks into no weight.
    """
    logits = objective.params["logits"]
    return f.mean(0) + pushed(logits, gradient, len(objective.q.event_shape)) - objective.kl()


def pushed(value: Tensor, slope: Tensor, event_dims: int) -> Tensor:
    """A zero, (*batch), whose gradient is sg(slope) times that of ``value``; both are (*batch, *event)."""
    return (slope.detach() * (value - value.detach())).flatten(-event_dims).sum(-1)


def value_and_slope(objective: Objective, z: Tensor) -> tuple[Tensor, Tensor]:
    """f at samples z, (S, *batch), live in the model's weights, and df/dz, (S, *batch, *event), detached."""
    z = z.detach().requires_grad_()
    f = objective.f(z, objective.frozen_q())
    (slope,) = torch.autograd.grad(f.sum(), z, retain_graph=True)
    return f, slope
