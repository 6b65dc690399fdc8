"""The objective of one minibatch: the seam between problems and estimators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

Family = Callable[[Mapping[str, Tensor]], Distribution]


class Objective:
    r"""L = E_{q(z)}[f(z)] - KL for one minibatch, one value per example; to be maximised.

    The KL divergence is written apart where it is analytic, f(z) = log p(x|z), or carried by f where it is
    sampled, f(z) = log p(x|z) + log p(z) - log q(z). Either way L is the same number.

    Sizes: S samples, B examples, D latents; ``*R`` are any further batch dimensions, none in training and the
    replicates in a probe.

    Parameters
    ----------
    params
        The variational parameters by name, each (*R, B, D).
    family
        Builds q from such parameters.
    log_likelihood
        log p(x|z): (S, *R, B, D) to (S, *R, B).
    prior
        Builds p(z), with event shape (D,); called when it is first needed.
    context
        What was observed, (B, X): the input of learned baselines.
    kl
        KL(q || p) in closed form, () to (*R, B); without one it is sampled within f.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        family: Family,
        log_likelihood: Callable[[Tensor], Tensor],
        prior: Callable[[], Distribution],
        context: Tensor | None = None,
        kl: Callable[[], Tensor] | None = None,
    ) -> None:
        self.params = params
        self.q = family(params)
        self.context = context
        self.evaluations = 0
        self._family = family
        self._prior = prior
        self._log_likelihood = log_likelihood
        self._kl = kl

    @cached_property
    def prior(self) -> Distribution:
        """p(z), with event shape (D,)."""
        return self._prior()

    @property
    def batch_shape(self) -> torch.Size:
        """(*R, B)."""
        return self.q.batch_shape

    def f(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """The integrand, (S, *R, B, D) to (S, *R, B); live in z, in the model's weights and, in a sampled KL, in q.

        A score-function estimator passes ``frozen_q()`` for q: the direct gradient of -log q has mean zero, so
        leaving it out removes noise and nothing else.
        """
        log_likelihood = self._count(z)
        if self._kl is not None:
            return log_likelihood
        return log_likelihood + self.prior.log_prob(z) - (q or self.q).log_prob(z)

    def kl(self) -> Tensor:
        """The analytic part of L, KL(q || p), (*R, B); zero where f carries the sampled KL."""
        if self._kl is not None:
            return self._kl()
        return next(iter(self.params.values())).new_zeros(self.batch_shape)

    def log_weight(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Log importance weight log p(x, z) - log q(z), (S, *R, B, D) to (S, *R, B), whichever KL is in use."""
        return self._count(z) + self.prior.log_prob(z) - (q or self.q).log_prob(z)

    def frozen_q(self) -> Distribution:
        """Rebuild q from detached parameters: gradients pass through z alone."""
        return self._family({name: value.detach() for name, value in self.params.items()})

    def _count(self, z: Tensor) -> Tensor:
        self.evaluations += z.shape[:-1].numel()
        return self._log_likelihood(z)
