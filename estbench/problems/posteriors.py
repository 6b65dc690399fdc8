"""Posteriors of VAEs: independent latents of the chosen family, and normal latents with a full covariance."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import Distribution

from estbench.latents import FullNormalLatents, Latents
from estbench.problems.parts import Posterior, register_posterior
from estbench.problems.priors import FamilyPrior


class FamilyPosterior(Posterior):
    """Base of posteriors that are of a family of ``estbench.latents``."""

    def __init__(self, latents: Latents) -> None:
        super().__init__(latents)
        self.latents = latents
        self.outputs = latents.outputs

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return self.latents.split(outputs)

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return self.latents.family(params)


@register_posterior("diagonal")
class DiagonalPosterior(FamilyPosterior):
    """Independent latents of the family that ``latents`` chooses."""

    for_latents = None

    def __init__(self, latents: Latents) -> None:
        super().__init__(latents)
        self.closed_form_kl = latents.closed_form_kl

    def kl(self, params: Mapping[str, Tensor], prior: FamilyPrior) -> Tensor:
        return prior.kl(params)


@register_posterior("full")
class FullPosterior(FamilyPosterior):
    """Normal latents with a full covariance: see ``estbench.latents.FullNormalLatents``."""

    family_name = FullNormalLatents.name
    closed_form_kl = True

    def __init__(self, latents: Latents) -> None:
        super().__init__(FullNormalLatents(latents.inputs))
