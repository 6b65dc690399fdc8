"""All values of finite latents."""

from __future__ import annotations

from functools import lru_cache

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
    match base:
        case Bernoulli() if q.event_shape.numel() <= limit.bit_length() - 1:
            categories, latents = None, q.event_shape.numel()
        case OneHotCategorical() if base.event_shape[-1] ** q.event_shape[:-1].numel() <= limit:
            categories, latents = base.event_shape[-1], q.event_shape[:-1].numel()
        case _:
            return None
    values = _combinations(categories, latents, base.logits.dtype, base.logits.device)
    return values.clone().view(-1, *q.event_shape)


@lru_cache(maxsize=32)
def _combinations(categories: int | None, latents: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return all values of the latents, (N, D, C), C = 1 for bits; kept, because making them waits for a device."""
    with torch.inference_mode(mode=False):
        if categories is None:
            choices = torch.tensor([[0.0], [1.0]], dtype=dtype, device=device)
        else:
            choices = torch.eye(categories, dtype=dtype, device=device)
        index = torch.cartesian_prod(*[torch.arange(len(choices), device=device)] * latents)
        return choices[index.view(-1, latents)]
