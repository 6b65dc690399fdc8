"""Priors of VAEs: of the family of the latents, fixed or learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from estbench.datasets import Dataset
from estbench.latents import Latents
from estbench.problems.parts import Prior, register_prior


class FamilyPrior(Prior):
    """A prior of the latents' own family; its parameters are those that an encoder would give for zeros."""

    def __init__(self, latents: Latents, data: Dataset) -> None:
        super().__init__(latents, data)
        self.latents = latents
        self.outputs: Tensor

    @property
    def params(self) -> dict[str, Tensor]:
        """The parameters of p(z) by name, each (D,), or (D, C)."""
        return self.latents.split(self.outputs)

    def forward(self, posterior: Callable[[Tensor], Distribution] | None = None) -> Distribution:
        return self.latents.family(self.params)

    def kl(self, q: Mapping[str, Tensor]) -> Tensor:
        """Return KL(q || p) in closed form and in nats, (*B), from the parameters of q."""
        return self.latents.kl(q, self.params)


@register_prior("fixed")
class FixedPrior(FamilyPrior):
    """The standard prior of the family: N(0, I), fair coins, uniform categories, Exp(1), ..."""

    def __init__(self, latents: Latents, data: Dataset) -> None:
        super().__init__(latents, data)
        self.register_buffer("outputs", torch.zeros(latents.outputs), persistent=False)

    def kl(self, q: Mapping[str, Tensor]) -> Tensor:
        return self.latents.kl_to_standard(q)


@register_prior("learned")
class LearnedPrior(FamilyPrior):
    """A prior of the family whose parameters are weights; they start from the standard prior."""

    def __init__(self, latents: Latents, data: Dataset) -> None:
        super().__init__(latents, data)
        self.outputs = nn.Parameter(torch.zeros(latents.outputs))
