"""Categories, as one-hot vectors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical, kl_divergence, register_kl

from estbench.latents.base import independent


class CategoricalLatents:
    """D independent one-hot vectors of C categories, from ``logits`` of (*B, D, C); zeros are uniform.

    A sample has shape (*B, D, C). As for bits, the log-density sum_c z_c log p_c is linear in z.
    """

    name = "categorical"
    closed_form_kl = True

    def __init__(self, size: int, categories: int) -> None:
        self.shape = (size, categories)
        self.outputs = self.inputs = size * categories

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"logits": outputs.view(*outputs.shape[:-1], *self.shape)}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(OneHot(logits=params["logits"], validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        return kl_divergence(self.family(q), self.family(p))

    def flat(self, z: Tensor) -> Tensor:
        return z.flatten(-2)


class OneHot(OneHotCategorical):
    """One-hot vectors whose log-density is linear in the vector, and so defined between the corners too."""

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits).sum(-1)


@register_kl(OneHot, OneHot)  # type: ignore[no-untyped-call, untyped-decorator]
def _one_hot_kl(q: OneHot, p: OneHot) -> Tensor:
    return kl_divergence(q._categorical, p._categorical)  # noqa: SLF001
