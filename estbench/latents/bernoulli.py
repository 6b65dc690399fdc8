"""Bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from estbench.latents.base import independent


class BernoulliLatents:
    """D independent bits, from ``logits`` of (*B, D); zeros are fair coins.

    The log-density b log theta + (1 - b) log(1 - theta) is linear in b, and so is defined and differentiable for the
    relaxed bits, between 0 and 1, that some estimators ask for.
    """

    name = "bernoulli"
    closed_form_kl = True

    def __init__(self, size: int) -> None:
        self.outputs = self.inputs = size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"logits": outputs}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Bernoulli(logits=params["logits"], validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        # torch's own does not broadcast a prior of (D,) against q of (*B, D).
        q_logits, p_logits = q["logits"], p["logits"]
        return (q_logits.sigmoid() * (q_logits - p_logits) + F.softplus(p_logits) - F.softplus(q_logits)).sum(-1)

    def flat(self, z: Tensor) -> Tensor:
        return z
