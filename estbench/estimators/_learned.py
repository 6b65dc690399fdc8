"""How an estimator's own parameters learn: by the square of the gradient that they help to estimate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def variance_descent(
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
