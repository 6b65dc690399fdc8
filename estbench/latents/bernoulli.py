"""Latents that are bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from estbench.latents.base import Latents, independent


class BernoulliLatents(Latents):
    """D independent bits, from ``logits`` of (*B, D); zeros are fair coins.

    The log-density b log theta + (1 - b) log(1 - theta) is linear in b. So it is defined and differentiable for the
    relaxed bits, between 0 and 1, that some estimators ask for.

    Parameters
    ----------
    size
        D, the number of bits.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import BernoulliLatents
    >>> latents = BernoulliLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'logits': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "bernoulli"

    def __init__(self, size: int) -> None:
        self.outputs = self.inputs = size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"logits": outputs}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Bernoulli(logits=params["logits"], validate_args=False))

    def draw(self, params: Mapping[str, Tensor], uniform: Tensor) -> Tensor:
        theta = params["logits"].sigmoid()
        return (uniform < theta).to(theta)

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        # By hand, because torch's own does not broadcast a prior of (D,) against q of (*B, D).
        q_logits, p_logits = q["logits"], p["logits"]
        return (q_logits.sigmoid() * (q_logits - p_logits) + F.softplus(p_logits) - F.softplus(q_logits)).sum(-1)
