"""Families of latent variables: what an encoder emits for each, and the distribution that is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    kl_divergence,
    register_kl,
)


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


class NormalLatents:
    """D independent normals, from ``loc`` and ``log_scale``, (*B, D) each; zeros are the standard normal."""

    name = "normal"
    closed_form_kl = True

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        loc, log_scale = outputs.chunk(2, dim=-1)
        return {"loc": loc, "log_scale": log_scale}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        # Argument checks would cost more than the distribution; a non-finite objective is caught by the training loop.
        return _independent(Normal(params["loc"], params["log_scale"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        log_ratio = q["log_scale"] - p["log_scale"]
        distance = (q["loc"] - p["loc"]) * (-p["log_scale"]).exp()
        return 0.5 * (distance.square() + (2 * log_ratio).exp() - 2 * log_ratio - 1).sum(-1)

    def flat(self, z: Tensor) -> Tensor:
        return z


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
        return _independent(Bernoulli(logits=params["logits"], validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        # torch's own does not broadcast a prior of (D,) against q of (*B, D).
        q_logits, p_logits = q["logits"], p["logits"]
        return (q_logits.sigmoid() * (q_logits - p_logits) + F.softplus(p_logits) - F.softplus(q_logits)).sum(-1)

    def flat(self, z: Tensor) -> Tensor:
        return z


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
        return _independent(OneHot(logits=params["logits"], validate_args=False))

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


def states(q: Distribution, limit: int = 4096) -> Tensor | None:
    """Every value that q can take, (N, *event_shape); nothing where they are not finite in number, or over ``limit``.

    Bits come in binary order, the last one fastest; so do categories.
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


def _independent(base: Distribution) -> Distribution:
    return Independent(base, 1, validate_args=False)
