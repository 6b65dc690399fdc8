"""Linear layers of a network whose weights are the latents, and draws of these weights by what they do to inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


class LinearLayers:
    """The places of the weights of linear layers in a vector of latents.

    A layer from n inputs to m outputs has n + 1 rows of m weights: the last row is the bias.

    Parameters
    ----------
    sizes
        The numbers of inputs and of the units of each layer.

    Examples
    --------
    >>> import torch
    >>> from estbench.problems.linear_layers import LinearLayers
    >>> layers = LinearLayers([1, 20, 1])
    >>> layers.size, [tuple(weights.shape) for weights in layers.split(torch.zeros(5, 61))]
    (61, [(5, 2, 20), (5, 21, 1)])
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.shapes = [(inputs + 1, outputs) for inputs, outputs in pairwise(sizes)]
        self.counts = [rows * outputs for rows, outputs in self.shapes]
        self.size = sum(self.counts)  # D

    def split(self, flat: Tensor) -> list[Tensor]:
        """Return the weights of each layer, (*B, D) to (*B, n + 1, m)."""
        parts = torch.split(flat, self.counts, dim=-1)
        return [part.reshape(*part.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def draw(self, z: Tensor | WeightDraw) -> WeightDraw:
        """Return a draw that all rows of data share, from weights z, (S, *R, B, D); what is a draw already stays."""
        return z if isinstance(z, WeightDraw) else SharedDraw(z, self)


class WeightDraw(ABC):
    """A draw of a network's weights, known only by what it does to the inputs of each layer.

    It stands in for z where f is a network: ``objective.f(draw)``. Each row of data may see other weights, as long as
    each row by itself sees a draw from q: f is a sum over rows, so its mean and its gradient are the same.
    """

    shape: torch.Size  # (S, *R, B, D), as z has it

    def dim(self) -> int:
        """Return the number of dimensions of z."""
        return len(self.shape)

    @abstractmethod
    def linear(self, layer: int, inputs: Tensor) -> Tensor:
        """Return the pre-activations of a layer for rows of inputs, (*any, B, M, n) to (S, *R, B, M, m)."""

    @abstractmethod
    def detach(self) -> WeightDraw:
        """Return the same draw without a gradient in the variational parameters."""


class SharedDraw(WeightDraw):
    """The same weights for all rows of an example."""

    def __init__(self, z: Tensor, layers: LinearLayers) -> None:
        self.z, self.layers, self.shape = z, layers, z.shape
        self.weights = layers.split(z)

    def linear(self, layer: int, inputs: Tensor) -> Tensor:
        return with_ones(inputs) @ self.weights[layer]

    def detach(self) -> SharedDraw:
        return SharedDraw(self.z.detach(), self.layers)


def with_ones(inputs: Tensor) -> Tensor:
    """Return inputs with a one at the end, for the bias: (*any, n) to (*any, n + 1)."""
    return torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
