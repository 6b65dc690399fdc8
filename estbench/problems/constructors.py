"""Objectives of the usual cases, for a training loop of one's own: latents of a family, or any log joint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal, OneHotCategorical

from estbench.errors import EstbenchError
from estbench.latents import FAMILY_NAMES, make_latents
from estbench.problems.objective import Family, Objective


def family_objective(
    family: str,
    params: Mapping[str, Tensor],
    log_likelihood: Callable[[Tensor], Tensor],
    *,
    prior: Mapping[str, Tensor] | None = None,
    context: Tensor | None = None,
    importance_samples: int = 1,
    kl_weight: float | Tensor = 1.0,
) -> Objective:
    """Return the objective of latents of a family: E_q[log p(x|z)] - KL(q || p), or a multi-sample bound.

    The KL is in closed form if the family has one.

    Parameters
    ----------
    family
        ``normal``, ``full-normal``, ``bernoulli``, ``categorical``, ``gamma``, ``beta``, ``dirichlet``, ``student-t``,
        ``poisson``, ``weibull``.
    params
        The parameters of q by name, (B, D) each, or (B, D, C): those of the family in ``estbench.latents``.
    log_likelihood
        log p(x|z) in nats: (S, B, D) to (S, B).
    prior
        The parameters of p(z), (D,) or (D, C) each; None for zeros: N(0, I), fair coins, uniform categories, ...
    context
        The observations, (B, X), for learned baselines.
    importance_samples
        K, more than 1 for the multi-sample bound.
    kl_weight
        The weight of the KL, for K = 1.

    Raises
    ------
    EstbenchError
        For an unknown family, or parameters of other names than the family's.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators
    >>> from estbench.problems import family_objective
    >>> logits = torch.zeros(5, 3, requires_grad=True)
    >>> objective = family_objective("bernoulli", {"logits": logits}, lambda b: (b * torch.arange(3.0)).sum(-1))
    >>> estimators.create("disarm")(objective).mean().backward()
    >>> logits.grad.shape
    torch.Size([5, 3])
    """
    if family not in FAMILY_NAMES:
        raise EstbenchError(f"no family of latents '{family}'; take one of {', '.join(FAMILY_NAMES)}")
    latents = make_latents(family, 1, 2)
    names = latents.parameter_names()
    for given, of in ((params, "q"), (prior, "the prior")):
        if given is not None and sorted(given) != names:
            raise EstbenchError(
                f"{family} latents have the parameters {' and '.join(names)}, and those of {of} are"
                f" {' and '.join(sorted(given)) or 'none'}"
            )
    batch_dims = len(latents.family(params).batch_shape)
    p = prior or {name: torch.zeros_like(value[(0,) * batch_dims]) for name, value in params.items()}
    return Objective(
        params,
        latents.family,
        log_likelihood,
        lambda: latents.family(p),
        context,
        (lambda: latents.kl(params, p)) if latents.closed_form_kl and importance_samples == 1 else None,
        importance_samples,
        kl_weight=kl_weight,
    )


def joint_objective(
    log_joint: Callable[[Tensor], Tensor],
    q: Distribution | Family,
    params: Mapping[str, Tensor] | None = None,
    *,
    context: Tensor | None = None,
    importance_samples: int = 1,
) -> Objective:
    """Return the objective E_q[log p(x, z) - log q(z)] of a model that is only known by its log joint density.

    Parameters
    ----------
    log_joint
        log p(x, z) in nats, up to a constant: (S, B, D) to (S, B).
    q
        A distribution of batch shape (B,) and event shape (D,), or (D, C): ``Independent`` of normals, bits or one-hot
        vectors, or ``MultivariateNormal``. Or a function that builds any distribution from ``params``.
    params
        The parameters of q by name, (B, D) each, if q is a function.
    context, importance_samples
        As in ``family_objective``.

    Raises
    ------
    EstbenchError
        If q is a distribution whose parameters are not known here: give a function then.

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> from estbench import estimators
    >>> from estbench.problems import joint_objective
    >>> loc, log_scale = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    >>> objective = joint_objective(
    ...     lambda z: -0.5 * (z - 3).square().sum(-1),  # the log joint of a posterior N(3, I)
    ...     Independent(Normal(loc, log_scale.exp()), 1),
    ... )
    >>> estimators.create("stl")(objective).mean().backward()
    >>> loc.grad  # without noise, because q has the posterior's shape
    tensor([[3., 3.]])
    """
    if isinstance(q, Distribution):
        name, params = _parameters_of(q)
        family: Family = make_latents(name, 1, 2).family
    elif params is None:
        raise EstbenchError("q is a function; give its parameters by name: params={'loc': ..., 'log_scale': ...}")
    else:
        family = q
    return Objective(params, family, log_joint, lambda: _NoPrior(family(params)), context, None, importance_samples)


def _parameters_of(q: Distribution) -> tuple[str, dict[str, Tensor]]:
    """Return the family of a distribution and its parameters as estbench names them."""
    base = q.base_dist if isinstance(q, Independent) and q.reinterpreted_batch_ndims == 1 else None
    match base:
        case Normal():
            return "normal", {"loc": base.loc, "log_scale": base.scale.log()}
        case Bernoulli():
            return "bernoulli", {"logits": base.logits}
        case OneHotCategorical():
            return "categorical", {"logits": base.logits}
    if isinstance(q, MultivariateNormal):
        factor = q.scale_tril
        size = factor.shape[-1]
        rows, columns = torch.tril_indices(size, size, -1, device=factor.device)
        log_scale = factor.diagonal(dim1=-2, dim2=-1).log()
        return "full-normal", {"loc": q.loc, "log_scale": log_scale, "lower": factor[..., rows, columns]}
    raise EstbenchError(
        f"the parameters of a {type(q).__name__} of event shape {tuple(q.event_shape)} are not known here; make the"
        " last dimension one of the event by torch.distributions.Independent(..., 1), or give q as a function of params"
    )


class _NoPrior(Distribution):
    """Stands for a prior that is part of the log joint: its log-density is zero."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (as torch's own)

    def __init__(self, q: Distribution) -> None:
        super().__init__(torch.Size(), q.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _NoPrior:
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[: value.dim() - len(self.event_shape)])

    @property
    def base_dist(self) -> _NoPrior:
        """Itself: an estimator that unwraps ``Independent`` comes to ``logits``."""
        return self

    @property
    def logits(self) -> Tensor:
        """There are none."""
        raise EstbenchError(
            "the estimator asks for the parameters of the prior, which is part of the log joint; choose another one, or"
            " state the prior by family_objective"
        )
