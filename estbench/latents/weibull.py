"""Latents that are Weibull variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, register_kl

from estbench.latents.base import Latents, independent

EULER = 0.5772156649015329  # minus the mean of log y for y ~ Exp(1)


class WeibullLatents(Latents):
    """D independent Weibull variables, from ``log_scale`` and ``log_concentration``, (*B, D) each; zeros are Exp(1).

    z = scale y^(1 / concentration) with y ~ Exp(1): positive, and with an explicit path to its parameters.

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import WeibullLatents
    >>> latents = WeibullLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_concentration': (5, 3), 'log_scale': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "weibull"

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_concentration, log_scale = outputs.chunk(2, dim=-1)
        return {"log_concentration": log_concentration, "log_scale": log_scale}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(LogWeibull(params["log_concentration"], params["log_scale"]))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        return _kl(q["log_concentration"], q["log_scale"], p["log_concentration"], p["log_scale"]).sum(-1)


class LogWeibull(Distribution):
    """A Weibull distribution from the logarithms of its parameters, both of one shape, without checks of them.

    With t = log z - log scale: log p(z) = log k + k t - exp(k t) - log z. Draws stay positive and finite.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (as torch's own)
    has_rsample = True

    def __init__(self, log_concentration: Tensor, log_scale: Tensor) -> None:
        self.log_concentration, self.log_scale = log_concentration, log_scale
        super().__init__(log_scale.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogWeibull:
        """Return the distribution with another batch shape, as torch does."""
        return LogWeibull(self.log_concentration.expand(batch_shape), self.log_scale.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        """Scale Gamma(1 + 1 / concentration)."""
        return (self.log_scale + torch.lgamma(1 + (-self.log_concentration).exp())).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return samples, (*sample_shape, *batch_shape), differentiable in the parameters."""
        like = self.log_scale.new_empty(*sample_shape, *self.batch_shape)
        tiny, largest = torch.finfo(like.dtype).tiny, torch.finfo(like.dtype).max
        log_y = like.exponential_().clamp(min=tiny).log()
        return (self.log_scale + log_y * (-self.log_concentration).exp()).exp().clamp(tiny, largest)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return samples, (*sample_shape, *batch_shape), without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        log_z = value.log()
        log_y = self.log_concentration.exp() * (log_z - self.log_scale)
        return self.log_concentration + log_y - log_y.exp() - log_z


@register_kl(LogWeibull, LogWeibull)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_of_weibulls(q: LogWeibull, p: LogWeibull) -> Tensor:
    return _kl(q.log_concentration, q.log_scale, p.log_concentration, p.log_scale)


def _kl(log_k: Tensor, log_s: Tensor, log_m: Tensor, log_r: Tensor) -> Tensor:
    r"""Return KL(q || p) of q with concentration k and scale s to p with concentration m and scale r, elementwise.

    With y = (z / s)^k ~ Exp(1) under q, and z / r = (s / r) y^(1 / k):

        log q - log p = log(k / m) + log y - y - (m / k) log y - m log(s / r) + (s / r)^m y^(m / k)

    and E log y = -gamma, E y = 1, E y^a = Gamma(1 + a).
    """
    ratio = (log_m - log_k).exp()
    power = log_m.exp() * (log_s - log_r)
    return log_k - log_m - EULER * (1 - ratio) - 1 - power + (power + torch.lgamma(1 + ratio)).exp()
