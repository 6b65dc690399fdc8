"""Latents that are one normal vector with a full covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, register_kl

from estbench.latents.base import Latents
from estbench.latents.normal import UncheckedNormal


class FullNormalLatents(Latents):
    r"""A normal vector of D correlated numbers; zeros are the standard normal.

        z ~ N(loc, L L^T),   L = diag(exp(log_scale)) + the strictly lower triangle of ``lower``

    The parameters are ``loc`` and ``log_scale``, (*B, D) each, and ``lower``, (*B, D (D - 1) / 2), row by row.

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import FullNormalLatents
    >>> latents = FullNormalLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'loc': (5, 3), 'log_scale': (5, 3), 'lower': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "full-normal"

    def __init__(self, size: int) -> None:
        self.inputs = size
        self.lower = size * (size - 1) // 2
        self.outputs = 2 * size + self.lower

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        loc, log_scale, lower = torch.split(outputs, [self.inputs, self.inputs, self.lower], dim=-1)
        return {"loc": loc, "log_scale": log_scale, "lower": lower}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        factor = torch.diag_embed(params["log_scale"].exp())
        size = factor.shape[-1]
        rows, columns = torch.tril_indices(size, size, -1, device=factor.device)
        factor[..., rows, columns] = params["lower"]
        return MultivariateNormal(params["loc"], scale_tril=factor, validate_args=False)


@register_kl(MultivariateNormal, Independent)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl_to_independent_normals(q: MultivariateNormal, p: Any) -> Tensor:
    r"""KL(N(m, L L^T) || N(n, diag s^2)) = 1/2 sum_d [((LL^T)_dd + (m_d - n_d)^2) / s_d^2 - 1] + log s_d - log L_dd."""
    base = p.base_dist
    if type(base) not in {Normal, UncheckedNormal} or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    factor = q._unbroadcasted_scale_tril  # noqa: SLF001  (the property scale_tril has the same values)
    spread = factor.square().sum(-1) + (q.loc - base.loc).square()
    log_ratio = base.scale.log() - factor.diagonal(dim1=-2, dim2=-1).log()
    kl: Tensor = (0.5 * (spread / base.scale.square() - 1) + log_ratio).sum(-1)
    return kl
