"""Parts of image models: perceptrons, binarised pixels, and likelihoods of binary and of grey pixels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Generator, Tensor, nn

from estbench.datasets import info as dataset_info

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
Activation = Literal["tanh", "relu", "leaky_relu", "elu"]
Size = Annotated[int, Field(ge=1, le=10**6)]
# Logits that a core's cache holds, with what is computed from them.
CACHED = 2**17


def _known(dataset: str) -> str:
    dataset_info(dataset)
    return dataset


ImageData = Annotated[str, AfterValidator(_known)]  # the name of a dataset, or file:PATH


def perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    """Return linear layers between these sizes, with the activation between them and none at the end.

    Examples
    --------
    >>> from estbench.problems.networks import perceptron
    >>> perceptron([64, 8, 2], "relu")
    Sequential(
      (0): Linear(in_features=64, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def binarised(intensities: Tensor, generator: Generator) -> Tensor:
    """Draw pixels Bernoulli(intensity), (B, X) to (B, X)."""
    # The same law as torch.bernoulli, which takes three times as long on a CPU.
    return torch.rand(intensities.shape, generator=generator, device=intensities.device, dtype=intensities.dtype).lt_(
        intensities
    )


def pixel_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """Return the log-likelihood of binary pixels, from logits of (S, *R, B, X) and x of (B, X) to (S, *R, B)."""
    if torch.is_grad_enabled() or not logits.is_cpu:
        return _pixel_log_likelihood(logits, x)
    # No gradient needs the whole, so it is done piece by piece: a piece stays in the cache.
    pieces = torch.split(logits, max(1, CACHED // logits[0].numel()))
    return torch.cat([_pixel_log_likelihood(piece, x) for piece in pieces])


def _pixel_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def grey_log_likelihood(mean: Tensor, log_sigma: Tensor, x: Tensor) -> Tensor:
    """Return log N(x; mean, exp(2 log_sigma)) of grey pixels; shapes as for binary ones, log_sigma is (..., 1)."""
    # The same as torch.distributions.Normal.log_prob, without its checks of arguments.
    return (-0.5 * ((x - mean) * (-log_sigma).exp()).square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)
