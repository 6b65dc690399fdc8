"""The base of all families of latents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence


class Latents(ABC):
    """A family of latents of a given size: how q and p are made from numbers, their KL, and a decoder's inputs.

    Sizes: (*B) are any batch dimensions, D is the number of latents, C that of categories. A family defines ``split``
    and ``family``; ``kl`` and ``flat`` have defaults, for families whose KL torch knows and whose samples are (*B, D).

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import NormalLatents
    >>> latents = NormalLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'loc': (5, 3), 'log_scale': (5, 3)}
    >>> q = latents.family(params)
    >>> q.batch_shape, q.event_shape
    (torch.Size([5]), torch.Size([3]))
    >>> latents.kl(params, params)  # of q with itself, in nats
    tensor([0., 0., 0., 0., 0.])
    """

    name: ClassVar[str]  # one that an estimator may declare in ``supports``
    closed_form_kl: ClassVar[bool] = True  # whether ``kl`` is there; elsewhere the KL is sampled
    outputs: int  # numbers that an encoder emits for one example
    inputs: int  # numbers that a decoder takes for one sample

    @abstractmethod
    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the variational parameters by name, (*B, D) or (*B, D, C), from an encoder's (*B, outputs)."""

    def parameter_names(self) -> list[str]:
        """Return the names of the variational parameters, sorted."""
        return sorted(self.split(torch.zeros(self.outputs)))

    @abstractmethod
    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        """Return the distribution with these parameters: batch shape (*B), event shape (D,) or (D, C)."""

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        """Return KL(q || p) in closed form and in nats, (*B), from the parameters of both."""
        return kl_divergence(self.family(q), self.family(p))

    def kl_to_standard(self, q: Mapping[str, Tensor]) -> Tensor:
        """Return KL(q || p) in closed form and in nats, (*B), for the standard p, whose parameters are zeros."""
        return self.kl(q, {name: torch.zeros_like(value) for name, value in q.items()})

    def draw(self, params: Mapping[str, Tensor], uniform: Tensor) -> Tensor:
        """Return samples that are a function of uniform noise, (*B, D); for normal, Bernoulli, categorical latents.

        Samples at other parameters and the same noise are near each other (common random numbers).
        """
        raise NotImplementedError(f"{self.name} latents are not drawn from uniform noise")

    def flat(self, z: Tensor) -> Tensor:
        """Return samples as a decoder takes them, (*B, D) or (*B, D, C) to (*B, inputs)."""
        return z


def independent(base: Distribution) -> Distribution:
    """Make the last batch dimension, that of the latents, one of the event."""
    return Independent(base, 1, validate_args=False)
