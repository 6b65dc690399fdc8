"""Latents that are normal variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, register_kl

from estbench.latents.base import Latents, independent


class NormalLatents(Latents):
    """D independent normals, from ``loc`` and ``log_scale``, (*B, D) each; zeros are the standard normal.

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import NormalLatents
    >>> latents = NormalLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'loc': (5, 3), 'log_scale': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "normal"

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        loc, log_scale = outputs.chunk(2, dim=-1)
        return {"loc": loc, "log_scale": log_scale}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        # Argument checks would cost more than the distribution; a non-finite objective is caught by the training loop.
        return independent(UncheckedNormal(params["loc"], params["log_scale"].exp(), validate_args=False))

    def draw(self, params: Mapping[str, Tensor], uniform: Tensor) -> Tensor:
        edge = torch.finfo(uniform.dtype).eps / 2  # the noise may be zero
        noise: Tensor = torch.special.ndtri(uniform.clamp(edge, 1 - edge))
        return params["loc"] + params["log_scale"].exp() * noise

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        log_ratio = q["log_scale"] - p["log_scale"]
        distance = (q["loc"] - p["loc"]) * (-p["log_scale"]).exp()
        return 0.5 * (distance.square() + (2 * log_ratio).exp() - 2 * log_ratio - 1).sum(-1)


class UncheckedNormal(Normal):
    """A normal with torch's samples, but without its check that scales are positive: that waits for a device."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return samples, (*sample_shape, *batch_shape), without a gradient."""
        with torch.no_grad():
            return self.rsample(torch.Size(sample_shape))


@register_kl(UncheckedNormal, UncheckedNormal)  # type: ignore[no-untyped-call, untyped-decorator]
@register_kl(UncheckedNormal, Normal)  # type: ignore[no-untyped-call, untyped-decorator]
@register_kl(Normal, UncheckedNormal)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_of_normals(q: Normal, p: Normal) -> Tensor:
    """Log scales are subtracted: the square of a small scale would be zero."""
    distance = (q.loc - p.loc) / p.scale
    kl: Tensor = 0.5 * ((q.scale / p.scale).square() + distance.square() - 1) + p.scale.log() - q.scale.log()
    return kl
