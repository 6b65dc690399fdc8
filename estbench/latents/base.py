"""What a family of latents is, and what its members share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.distributions import Distribution, Independent


class Latents(Protocol):
    """One family, of a given size; (*B) are any batch dimensions, D the latents."""

    name: str  # what an estimator must support
    outputs: int  # numbers that an encoder emits for one example
    inputs: int  # numbers that a decoder takes for one sample
    closed_form_kl: bool  # whether kl() is there; elsewhere the KL is sampled

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Variational parameters by name from an encoder's outputs, (*B, outputs)."""

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        """The distribution with such parameters."""

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        """KL(q || p) in closed form, (*B), from the parameters of both."""

    def flat(self, z: Tensor) -> Tensor:
        """A sample as a decoder takes it, (*B, inputs)."""


def independent(base: Distribution) -> Distribution:
    """Make the last batch dimension, that of the latents, one of the event."""
    return Independent(base, 1, validate_args=False)
