"""Densities as objectives rely on them: frozen, without stale caches, at the edge of their support, and their KL."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, Gamma, Independent, Transform
from torch.distributions.kl import _KL_REGISTRY, kl_divergence

NESTED = (Distribution, Transform, list, tuple)
PLAIN = (bool, int, float, str, torch.Size, torch.dtype, torch.device, type(None))


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """Return KL(q || p), (*R, B), by torch's formula for two distributions of exactly these types; None if it has none.

    A subclass may have another density than its base, so the formula of the base does not count. Own formulas are
    added by ``torch.distributions.register_kl``.
    """
    try:
        p = p.expand(q.batch_shape)  # not all of torch's formulas broadcast
    except NotImplementedError:
        return None
    dims = 0
    while isinstance(q, Independent) and isinstance(p, Independent):
        if q.reinterpreted_batch_ndims != p.reinterpreted_batch_ndims:
            return None
        dims += q.reinterpreted_batch_ndims
        q, p = q.base_dist, p.base_dist
    if (type(q), type(p)) not in _KL_REGISTRY:
        return None
    try:
        kl: Tensor = kl_divergence(q, p)
    except NotImplementedError:  # flows with other transforms
        return None
    return _summed(kl, dims)


def log_densities(q: Distribution, p: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return log q(z) and log p(z) of samples of q, (S, *R, B) each, also for samples that were rounded to the edge.

    Gamma, beta and Dirichlet samples are no smaller than the smallest normal number t; with a concentration a much
    below one, many of them are. Such a sample stands for all below t, which have the density a x^(a - 1) / t^a:

        log x = log t + log(u) / a,   u uniform

    Both densities are taken at a draw of x. In the same way, a beta sample next to one stands for all that are nearer
    than 3/2 of its distance. At the rounded sample the ratio p/q is too large, and so are bounds, by tens of nats.
    """
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    edges, others = _edges(_base(q), z), _edges(_base(p), z)
    dims = len(q.event_shape)
    for index, (rounded, concentration, width) in enumerate(edges):
        shift = torch.where(rounded, math.log(width) - torch.empty_like(z).exponential_() / concentration, 0.0)
        log_q = log_q + _summed((concentration - 1) * shift, dims)
        if type(_base(q)) is type(_base(p)):  # elsewhere p is taken to be constant near the edge
            log_p = log_p + _summed((others[index][1] - 1) * shift, dims)
    return log_q, log_p


def _edges(base: Distribution, z: Tensor) -> list[tuple[Tensor, Tensor, float]]:
    """Return for each edge: which samples were rounded to it, the concentration there, and how far rounding reaches."""
    low = z <= torch.finfo(z.dtype).tiny
    match base:
        case Gamma() | Dirichlet():
            return [(low, base.concentration, 1.0)]
        case Beta():
            return [(low, base.concentration1, 1.0), (z >= 1 - torch.finfo(z.dtype).eps / 2, base.concentration0, 1.5)]
        case _:
            return []


def _base(distribution: Distribution) -> Distribution:
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _summed(values: Tensor, dims: int) -> Tensor:
    return values.flatten(-dims).sum(-1) if dims else values


def frozen(q: Distribution) -> Distribution:
    """Return a q of detached parameters, whose density passes gradients on to its sample and to nothing else.

    Usually it is so already. If q holds weights that are not among its parameters (those of a flow, say), the
    density's gradient in z is taken apart: right to first order.
    """
    if not _may_carry_gradients(q):
        return q

    def log_prob(z: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or not z.requires_grad:
            return q.log_prob(z).detach()
        point = z.detach().requires_grad_()
        value = q.log_prob(point)
        (gradient,) = torch.autograd.grad(value.sum(), point)
        return value.detach() + (gradient * (z - point.detach())).flatten(value.dim()).sum(-1)

    return _with(q, log_prob=log_prob)


def _may_carry_gradients(part: Any) -> bool:
    """Return whether a tensor within a distribution may require a gradient; an unknown object may."""
    match part:
        case Tensor():
            return part.requires_grad
        case Distribution() | Transform():
            return any(_may_carry_gradients(each) for each in vars(part).values())
        case list() | tuple():
            return any(_may_carry_gradients(each) for each in part)
        case _:
            return not isinstance(part, PLAIN)


def without_stale_caches(q: Distribution) -> Distribution:
    """Return the same q, whose transforms with ``cache_size=1`` forget calls that are made while gradients are off.

    Such a transform remembers the origin of the last sample, and the density uses it as the inverse. If it was made
    without gradients, the density would have no gradient with respect to the flow's parameters.
    """
    cached = [transform for transform in _transforms(q) if getattr(transform, "_cache_size", 0)]
    if not cached:
        return q

    def sample(sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad(), _kept(cached):
            return q.sample(sample_shape)

    def log_prob(z: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return q.log_prob(z)
        with _kept(cached):
            return q.log_prob(z)

    return _with(q, sample=sample, log_prob=log_prob)


def _with(q: Distribution, **methods: Any) -> Distribution:
    """Return a shallow copy of q, of the same type, with other methods."""
    twin = copy.copy(q)
    vars(twin).update(methods)
    return twin


def _transforms(part: Any) -> list[Transform]:
    """Return all transforms within a distribution; it is asked in each step, so it looks at no more than it must."""
    found = [part] if isinstance(part, Transform) else []
    for each in part if isinstance(part, list | tuple) else vars(part).values():
        if isinstance(each, NESTED) and type(each) is not torch.Size:
            found += _transforms(each)
    return found


@contextmanager
def _kept(transforms: list[Transform]) -> Iterator[None]:
    before = [transform._cached_x_y for transform in transforms]  # noqa: SLF001
    try:
        yield
    finally:
        for transform, pair in zip(transforms, before, strict=True):
            transform._cached_x_y = pair  # noqa: SLF001
