"""Parts of surrogates: terms with a given gradient, Jacobians of softmax, losses of learned parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from estbench.estimators._noise import from_one_hot
from estbench.problems import Objective


def gradient_surrogate(objective: Objective, f: Tensor, gradient: Tensor) -> Tensor:
    """f averaged over samples, plus a given gradient with respect to the logits, less the analytic KL.

    f is (S, *batch) and carries the gradient of the model's own weights; ``gradient`` has the shape of the logits and
    carries nothing: how it was made leaks into no weight.
    """
    logits = objective.params["logits"]
    return f.mean(0) + gradient_carrier(logits, gradient, len(objective.q.event_shape)) - objective.kl()


def gradient_carrier(value: Tensor, slope: Tensor, event_dims: int) -> Tensor:
    """A zero, (*batch), whose gradient is sg(slope) times that of ``value``; both are (*batch, *event)."""
    return (slope.detach() * (value - value.detach())).flatten(-event_dims).sum(-1)


def value_and_grad(objective: Objective, z: Tensor) -> tuple[Tensor, Tensor]:
    """f at samples z, (S, *batch), live in the model's weights, and df/dz, (S, *batch, *event), detached."""
    z = z.detach().requires_grad_()
    f = objective.f(z, objective.frozen_q())
    (slope,) = torch.autograd.grad(f.sum(), z, retain_graph=True)
    return f, slope


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
    z = from_one_hot(objective, hard + (tangent - tangent.detach()))
    return objective.f(z, objective.frozen_q()).mean(0) - objective.kl()


def variance_loss(
    gradients: Iterable[Tensor], parameters: Iterable[nn.Parameter], batch_shape: torch.Size
) -> Tensor:
    r"""A term for the surrogate, of value zero, whose ascent makes the variance of the estimate smaller.

    Where the mean of the estimate g does not depend on the parameters, d Var(g) = d E|g|^2 (Grathwohl et al., 2018,
    arXiv:1711.00123). The term is linear in the parameters, so it moves them and nothing else.

    ``gradients`` are those with respect to the variational parameters, each (*batch_shape, ...), live in
    ``parameters`` (made with ``create_graph=True``); examples are averaged, as in the surrogate of a minibatch.
    """
    parameters = list(parameters)
    squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum() / batch_shape.numel()
    slopes = torch.autograd.grad(squares, parameters, allow_unused=True)
    terms = [
        (slope * (parameter.detach() - parameter)).sum()
        for parameter, slope in zip(parameters, slopes, strict=True)
        if slope is not None
    ]
    return torch.stack(terms).sum() if terms else squares.new_zeros(())
