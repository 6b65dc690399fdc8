"""Parts of surrogates: terms with a given gradient, Jacobians of softmax, losses of learned parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from estbench.estimators._noise import from_one_hot
from estbench.problems import Objective


def gradient_surrogate(objective: Objective, f: Tensor, gradient: Tensor) -> Tensor:
    """Return f averaged over samples, plus a term with a given gradient in the logits, less the analytic KL: (*batch).

    f is (S, *batch) and carries the gradient of the model's own weights. ``gradient`` has the shape of the logits and
    is detached: no weight is reached through it.
    """
    logits = objective.params["logits"]
    return f.mean(0) + gradient_carrier(logits, gradient, len(objective.q.event_shape)) - objective.kl()


def gradient_carrier(value: Tensor, gradient: Tensor, event_dims: int) -> Tensor:
    """Return a zero, (*batch), whose gradient is sg(gradient) times that of ``value``; both are (*batch, *event)."""
    return (gradient.detach() * (value - value.detach())).flatten(-event_dims).sum(-1)


def value_and_grad(objective: Objective, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return f at samples z, (S, *batch), live in the model's weights, and df/dz, (S, *batch, *event), detached."""
    z = z.detach().requires_grad_()
    f = objective.f(z, objective.frozen_q())
    (gradient,) = torch.autograd.grad(f.sum(), z, retain_graph=True)
    return f, gradient


def softmax_jacobian(p: Tensor, logits: Tensor) -> Tensor:
    r"""Return a tensor whose Jacobian in the logits is J(p) = diag p - p p', for any fixed p: both (..., C).

    With p = softmax(logits) this is the Jacobian of the softmax. The value of the tensor means nothing.
    """
    p = p.detach()
    return p * (logits - (p * logits).sum(-1, keepdim=True))


def straight_through_surrogate(objective: Objective, hard: Tensor, tangent: Tensor) -> Tensor:
    """Return the surrogate of f at a hard sample that has the Jacobian of ``tangent`` in the logits: (*batch).

    Both are (S, *R, B, D, C). The value, and so the gradient of the model's own weights, is that of f(hard). The direct
    gradient of -log q in a sampled KL has mean zero and is left out.
    """
    z = from_one_hot(objective, hard + (tangent - tangent.detach()))
    return objective.f(z, objective.frozen_q()).mean(0) - objective.kl()


def variance_loss(gradients: Iterable[Tensor], parameters: Iterable[nn.Parameter], batch_shape: torch.Size) -> Tensor:
    r"""Return a term for the surrogate, of value zero, whose ascent makes the variance of the estimate smaller.

    If the mean of the estimate g does not depend on the parameters, d Var(g) = d E|g|^2 (Grathwohl et al., 2018,
    arXiv:1711.00123). The term is linear in the parameters, so it has a gradient only in them.

    ``gradients`` are those with respect to the variational parameters, each (*batch_shape, ...), live in
    ``parameters`` (made with ``create_graph=True``); examples are averaged, as in the surrogate of a minibatch.
    """
    parameters = list(parameters)
    squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum() / batch_shape.numel()
    derivatives = torch.autograd.grad(squares, parameters, allow_unused=True)
    terms = [
        (derivative * (parameter.detach() - parameter)).sum()
        for parameter, derivative in zip(parameters, derivatives, strict=True)
        if derivative is not None
    ]
    return torch.stack(terms).sum() if terms else squares.new_zeros(())
