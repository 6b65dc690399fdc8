"""Latents that are categories, as one-hot vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical, register_kl
from torch.nn.functional import one_hot

from estbench.latents.base import Latents, independent


class CategoricalLatents(Latents):
    """D independent one-hot vectors of C categories, from ``logits`` of (*B, D, C); zeros are uniform.

    A sample has shape (*B, D, C). As for bits, the log-density sum_c z_c log p_c is linear in z.

    Parameters
    ----------
    size
        D, the number of one-hot vectors.
    categories
        C, at least 2.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import CategoricalLatents
    >>> latents = CategoricalLatents(2, categories=4)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'logits': (5, 2, 4)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 8])
    """

    name = "categorical"

    def __init__(self, size: int, categories: int) -> None:
        self.shape = (size, categories)
        self.outputs = self.inputs = size * categories

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"logits": outputs.view(*outputs.shape[:-1], *self.shape)}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(OneHot(logits=params["logits"], validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        log_q, log_p = log_softmax(q["logits"]), log_softmax(p["logits"])
        return _kl(log_q.exp(), log_q, log_p).sum(-1)

    def draw(self, params: Mapping[str, Tensor], uniform: Tensor) -> Tensor:
        logits = params["logits"]
        below = logits.softmax(-1).cumsum(-1)[..., :-1] <= uniform[..., None]
        return one_hot(below.sum(-1), logits.shape[-1]).to(logits)

    def flat(self, z: Tensor) -> Tensor:
        return z.flatten(-2)


def log_softmax(logits: Tensor) -> Tensor:
    """Return the logarithms of the softmax over the last dimension, (*B, C).

    Over a last dimension of ten, torch takes six times as long on a CPU as over a first one of a copy. Its compiler
    lays out both as it likes.
    """
    if torch.compiler.is_compiling():
        return logits.log_softmax(-1)
    return torch.log_softmax(logits.movedim(-1, 0).contiguous(), 0).movedim(0, -1)


class OneHot(OneHotCategorical):
    """One-hot vectors whose log-density is linear in the vector, and so defined between the corners too.

    Arguments are checked only if ``validate_args`` says so. Torch's own class always does: that waits for a device.
    """

    def __init__(
        self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        shape = self._categorical.batch_shape, self._categorical.param_shape[-1:]
        Distribution.__init__(self, *shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHot:
        """Return the distribution with another batch shape, as torch does."""
        new = self._get_checked_instance(OneHot, _instance)  # type: ignore[no-untyped-call]
        return super().expand(batch_shape, new)  # type: ignore[no-untyped-call, no-any-return]

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits).sum(-1)


@register_kl(OneHot, OneHot)  # type: ignore[no-untyped-call, untyped-decorator]
def _one_hot_kl(q: OneHot, p: OneHot) -> Tensor:
    return _kl(q.probs, q.logits, p.logits.masked_fill(p.probs == 0, -math.inf))


def _kl(probs: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return KL(q || p) of categories, (*B, C) to (*B); categories that q does not have count nothing."""
    return (probs * (log_q - log_p)).masked_fill(probs == 0, 0).sum(-1)
