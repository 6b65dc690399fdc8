"""Likelihoods of pixels: of binary ones and of grey ones."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from estbench.datasets import Dataset
from estbench.problems.parts import Likelihood, register_likelihood
from estbench.problems.pixels import binarised, pixel_log_likelihood


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
