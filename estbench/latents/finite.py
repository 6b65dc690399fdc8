"""All values of finite latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical


def is_finite(q: Distribution) -> bool:
    """Return whether q has finitely many values, as bits and one-hot vectors have."""
    return isinstance(q.base_dist if isinstance(q, Independent) else q, Bernoulli | OneHotCategorical)


def states(q: Distribution, limit: int = 4096) -> Tensor | None:
    """Return every value of q, (N, *event_shape); None if they are not finite in number, or more than ``limit``.

    Bits come in binary order, the last one fastest; so do categories.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import BernoulliLatents, states
    >>> states(BernoulliLatents(2).family({"logits": torch.zeros(2)}))
    tensor([[0., 0.],
            [0., 1.],
            [1., 0.],
            [1., 1.]])
    """
    base = q.base_dist if isinstance(q, Independent) else q
    like = {"dtype": base.logits.dtype, "device": base.logits.device} if hasattr(base, "logits") else {}
    match base:
        case Bernoulli() if q.event_shape.numel() <= limit.bit_length() - 1:
            choices = torch.tensor([[0.0], [1.0]], **like)
        case OneHotCategorical() if base.event_shape[-1] ** q.event_shape[:-1].numel() <= limit:
            choices = torch.eye(base.event_shape[-1], **like)
        case _:
            return None
    latents = q.event_shape.numel() // choices.shape[1]
    index = torch.cartesian_prod(*[torch.arange(len(choices), device=choices.device)] * latents)
    return choices[index.view(-1, latents)].view(-1, *q.event_shape)
