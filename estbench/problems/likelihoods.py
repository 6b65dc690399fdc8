"""Likelihoods of pixels: of binary ones and of grey ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from estbench.datasets import Dataset
from estbench.problems.parts import Likelihood, register_likelihood

# Logits that a core's cache holds, with what is computed from them.
CACHED = 2**17


@register_likelihood("bernoulli")
class BernoulliLikelihood(Likelihood):
    """p(x|z) = prod_i Bernoulli(x_i; sigmoid(g_i(z))), of pixels that are drawn again at each access."""

    observation = None

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return binarised(intensities, generator)

    def forward(self, outputs: Tensor, x: Tensor) -> Tensor:
        return pixel_log_likelihood(outputs, x)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()


@register_likelihood("gaussian")
class GaussianLikelihood(Likelihood):
    r"""Grey pixels as they are, with one learned sigma for all.

        log p(x|z) = sum_i log N(x_i; g_i(z), sigma^2)
                   = sum_i [-(x_i - g_i(z))^2 / (2 sigma^2) - log sigma - log(2 pi) / 2]

    sigma starts at the standard deviation of the training pixels.
    """

    observation = "continuous"

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        self.log_sigma = nn.Parameter(torch.tensor([math.log(data.train.std())]))

    def forward(self, outputs: Tensor, x: Tensor) -> Tensor:
        # The same as torch.distributions.Normal.log_prob, without its checks of arguments.
        distance = (x - outputs) * (-self.log_sigma).exp()
        return (-0.5 * distance.square() - self.log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs


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
