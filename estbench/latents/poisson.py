"""Latents that are counts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import Distribution, Poisson

from estbench.latents.base import Latents, independent


class PoissonLatents(Latents):
    """D independent Poisson counts, from ``log_rate`` of (*B, D); zeros have the mean 1.

    The log-density z log rate - rate - log Gamma(z + 1) is differentiable in z too, for the relaxed counts that some
    estimators ask for. In a ratio of two densities the last term cancels.

    Parameters
    ----------
    size
        D, the number of counts.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import PoissonLatents
    >>> latents = PoissonLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_rate': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "poisson"

    def __init__(self, size: int) -> None:
        self.outputs = self.inputs = size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"log_rate": outputs}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Poisson(params["log_rate"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        r"""Return KL(q || p) = sum_d [r_d (log r_d - log s_d) - r_d + s_d] of rates r and s, (*B)."""
        # By hand, because torch's own does not broadcast a prior of (D,) against q of (*B, D).
        log_r, log_s = q["log_rate"], p["log_rate"]
        return (log_r.exp() * (log_r - log_s - 1) + log_s.exp()).sum(-1)
