"""Samples as functions of a distribution that they were not drawn from: the noise is the one that it would need."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from estbench.errors import EstbenchError


def at_own_noise(p: Distribution, z: Tensor) -> Tensor:
    r"""Return z itself, (S, \*B, D), with the derivative in p's parameters that a draw of p has at the same place.

        z = T(eps; theta):   eps := T^-1(z; theta) is held fixed,   dz/dtheta = dT(eps; theta)/dtheta

    For normals, diagonal or not, and for distributions that have a method of this name. Raises ``EstbenchError`` for
    any other.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import NormalLatents, at_own_noise
    >>> loc = torch.zeros(1, requires_grad=True)
    >>> log_scale = torch.zeros(1, requires_grad=True)
    >>> p = NormalLatents(1).family({"loc": loc, "log_scale": log_scale})
    >>> z = at_own_noise(p, torch.tensor([[3.0]]))  # loc + exp(log_scale) * 3
    >>> torch.autograd.grad(z.sum(), (loc, log_scale))
    (tensor([1.]), tensor([3.]))
    """
    base = p
    while isinstance(base, Independent):
        base = base.base_dist
    match base:
        case Normal():
            return base.loc + base.scale * ((z - base.loc) / base.scale).detach()
        case MultivariateNormal():
            factor = base.scale_tril
            noise = torch.linalg.solve_triangular(factor, (z - base.loc)[..., None], upper=False).detach()
            return base.loc + (factor @ noise)[..., 0]  # type: ignore[no-any-return]
    method = getattr(base, "at_own_noise", None)
    if method is None:
        raise EstbenchError(
            f"the sample of a {type(base).__name__} cannot be written as a function of its parameters at fixed noise;"
            " take a normal distribution"
        )
    moved: Tensor = method(z)
    return moved
