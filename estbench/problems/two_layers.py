"""The objective of two latents, one within the other: layers, or a discrete and a continuous latent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.errors import EstbenchError
from estbench.latents import Latents, is_finite, states
from estbench.problems.objective import ENUMERABLE, BoundTerms, Family, Objective


class TwoLayerObjective(Objective):
    r"""The ELBO of two latents z1 and z2, whose q is that of z1; q(z2|z1) and its objective depend on z1.

    Two layers, if ``log_likelihood`` is given (z2 is a latent of z1):

        L     = E_{q(z1|x)}[log p(x|z1) + V(z1)] + H(q(z1|x))
        V(z1) = E_{q(z2|z1)}[log p(z1|z2)] - KL(q(z2|z1) || p(z2))

    Two latents of x, if it is None (the likelihood is that of V):

        L     = E_{q(z1|x)}[V(z1)] - KL(q(z1|x) || p(z1))
        V(z1) = E_{q(z2|x,z1)}[log p(x|z1,z2)] - KL(q(z2|x,z1) || p(z2))

    V is an ELBO itself: ``second(z1)`` is its objective. f(z1) holds an estimate Vhat(z1), so it is random and has the
    right mean. The value of Vhat is that of one draw of z2, made from the same uniform noise wherever f is called, so
    that differences f(z1) - f(z1') have less noise (common random numbers). The gradient of Vhat (in z1, and in the
    weights of V) is that of the surrogate of an estimator (``estimated_by``), from draws of its own. So the score
    function works latent by latent, as in Tucker et al. (2017) and in Dong, Mnih and Tucker (2020).

    With a weight w of the KL, training ascends E[log p(x|z)] - w KL(q(z1, z2|x) || p(z1, z2)). An evaluation is a call
    of either integrand.

    Parameters
    ----------
    params, family, context
        Those of z1, as in ``Objective``.
    log_likelihood
        log p(x|z1): (S, *R, B, D) to (S, *R, B); or None.
    second
        The objective of z2 at samples z1, (S, *R, B, D): its batch dimensions are (S, *R, B).
    second_latents
        The family of z2.
    prior, kl
        p(z1) and KL(q(z1|x) || p(z1)), for two latents of x; two layers have neither.
    kl_weight
        The weight of the KL of both latents in L.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("hierarchical_vae[dataset=digits,hidden=[],latent_size=2]")
    >>> objective = problem(torch.zeros(5, 64))
    >>> objective.exact().shape  # a sum over the values of both layers
    torch.Size([5])
    >>> estimated = objective.estimated_by(estimators.create("rloo"))
    >>> estimated.f(estimated.q.sample((3,))).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        family: Family,
        log_likelihood: Callable[[Tensor], Tensor] | None,
        second: Callable[[Tensor], Objective],
        second_latents: Latents,
        context: Tensor,
        prior: Callable[[], Distribution] | None = None,
        kl: Callable[[], Tensor] | None = None,
        kl_weight: float | Tensor = 1.0,
    ) -> None:
        super().__init__(
            params,
            family,
            log_likelihood or _of_the_second,
            prior or _no_prior,
            context,
            kl or (lambda: -family(params).entropy()),
            kl_weight=kl_weight,
        )
        self.layered = log_likelihood is not None
        self._make_second = second
        self._second_latents = second_latents
        self._second_estimator: Callable[[Objective], Tensor] | None = None
        self._noise: Tensor | None = None

    def second(self, z: Tensor) -> Objective:
        """Return the objective V of z2 at samples z1, (S, *R, B, D); it has the batch dimensions (S, *R, B)."""
        second = self._make_second(z)
        if not self.layered:
            second.kl_weight = self.kl_weight
        return second

    def estimated_by(self, second_estimator: Callable[[Objective], Tensor]) -> TwoLayerObjective:
        """Return the same objective, with an estimator of the second latent's gradient: the surrogate of V."""
        estimated = copy.copy(self)
        estimated._second_estimator = second_estimator  # noqa: SLF001  (of the same class)
        return estimated

    def f(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the integrand log p(x|z1) + Vhat(z1), (S, *R, B, D) to (S, *R, B); its gradient too is an estimate.

        Raise ``EstbenchError`` if gradients are on and no estimator of the second latent was given.
        """
        value = self._second_value(z)
        return self._count(z) + self._weighted(value) if self.layered else value

    def log_weight(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the integrand with a sampled KL of z1, (S, *R, B, D) to (S, *R, B); see ``Objective.log_weight``.

        The importance weights of both latents are in ``bound_terms``.
        """
        self._check_member("log_weight")
        log_ratio = -(q or self.q).log_prob(z)
        if not self.layered:
            log_ratio = log_ratio + self._p.log_prob(z)
        return self.f(z) + (self.kl_weight * log_ratio if self.weighted else log_ratio)

    def bound_terms(self, z: Tensor) -> BoundTerms:
        """Return terms of the true bounds, (S, *R, B) each, with one draw of z2 for each z1; see ``Objective``.

        The entropy of q(z1|x), or its KL, and the KL of the second latent are in closed form.
        """
        assert self._kl is not None
        second = self.second(z)
        value, weight, likelihood = (term.squeeze(0) for term in second.bound_terms(second.q.sample((1,))))
        self.evaluations += second.evaluations
        log_ratio = -self.q.log_prob(z)
        if self.layered:
            likelihood = self._count(z)
            value, weight = likelihood + value, likelihood + weight
        else:
            log_ratio = log_ratio + self._p.log_prob(z)
        return BoundTerms(value - self._kl(), weight + log_ratio, likelihood)

    def exact(self) -> Tensor:
        """Return L as a sum over all values of both latents, (*R, B); ``EstbenchError`` for more than ``ENUMERABLE``.

        With an estimator of a continuous second latent, it is a sum over z1 of q(z1) f(z1).
        """
        values = states(self.q, ENUMERABLE)
        ones = [1] * len(self.batch_shape)
        if values is not None:
            z = values.view(-1, *ones, *self.q.event_shape).expand(-1, *self.batch_shape, *self.q.event_shape)
            second = self.second(z)
            others = states(second.q, ENUMERABLE // len(values))
            if others is not None:
                value = second.exact()
                value = self._count(z) + self._weighted(value) if self.layered else value
                self.evaluations += second.evaluations
                return (self.q.log_prob(z).exp() * value).sum(0) - self.kl()
            if self._second_estimator is not None and not is_finite(second.q):
                return (self.q.log_prob(z).exp() * self.f(z)).sum(0) - self.kl()
        raise EstbenchError(
            "this objective has no exact value: its two latents are continuous, or have more than"
            f" {ENUMERABLE} values together; take fewer latents (6 bits each, say)"
        )

    def _weighted(self, value: Tensor) -> Tensor:
        """Return V of two layers, all of which is a part of the KL, with its weight."""
        return self.kl_weight * value if self.weighted else value

    def _second_value(self, z: Tensor) -> Tensor:
        second = self.second(z)
        with torch.no_grad():
            if self._noise is None:
                like = next(iter(second.params.values()))
                size = second.q.event_shape[0]
                self._noise = torch.rand(*self.batch_shape, size, dtype=like.dtype, device=like.device)
            drawn = self._second_latents.draw(second.params, self._noise)
            value = second.f(drawn[None]).squeeze(0) - second.kl()
        if torch.is_grad_enabled():
            if self._second_estimator is None:
                raise EstbenchError(
                    "the second latent of this problem has no estimator; make one for both by"
                    " estimators.create_for(variant, problem), and name both in latents_by_name of the problem"
                )
            surrogate = self._second_estimator(second)
            value = value + (surrogate - surrogate.detach())
        self.evaluations += second.evaluations
        return value


def _of_the_second(_z: Tensor) -> Tensor:
    raise EstbenchError("the likelihood of two latents is that of the second's objective")


def _no_prior() -> Distribution:
    raise EstbenchError(
        "the estimator asks for the prior of the first of two layers, which is p(z1|z2) and no fixed distribution;"
        " choose another estimator, or other options of it"
    )
