"""The objective of two layers of bits: the integrand of the first layer holds the objective of the second."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.errors import EstbenchError
from estbench.latents import states
from estbench.problems.objective import ENUMERABLE, BoundTerms, Family, Objective


class TwoLayerObjective(Objective):
    r"""The ELBO of bits z1 and z2, whose q is that of z1.

        L     = E_{q(z1|x)}[log p(x|z1) + V(z1)] + H(q(z1|x))
        V(z1) = E_{q(z2|z1)}[log p(z1|z2)] - KL(q(z2|z1) || p(z2))

    V is an ELBO itself, of z1 as what is observed: ``second(z1)`` is its objective. f(z1) = log p(x|z1) + Vhat(z1) is
    random and has the right mean. The value of Vhat is that of one draw of z2, made from the same uniform noise
    wherever f is called, so that differences f(z1) - f(z1') have less noise (common random numbers). The gradient of
    Vhat (in z1, in the weights of q(z2|z1), p(z1|z2) and p(z2)) is that of the surrogate of an estimator
    (``estimated_by``), from draws of its own. So the score function works layer by layer, as in Tucker et al. (2017)
    and in Dong, Mnih and Tucker (2020).

    An evaluation is a call of either layer's integrand.

    Parameters
    ----------
    params, family, context
        Those of the first layer, as in ``Objective``.
    log_likelihood
        log p(x|z1): (S, *R, B, D) to (S, *R, B).
    second
        The objective of z2 at samples z1, (S, *R, B, D): its batch dimensions are (S, *R, B).

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
        log_likelihood: Callable[[Tensor], Tensor],
        second: Callable[[Tensor], Objective],
        context: Tensor,
    ) -> None:
        super().__init__(params, family, log_likelihood, _no_prior, context, kl=lambda: -family(params).entropy())
        self.second = second
        self._second_estimator: Callable[[Objective], Tensor] | None = None
        self._noise: Tensor | None = None

    def estimated_by(self, second_estimator: Callable[[Objective], Tensor]) -> TwoLayerObjective:
        """Return the same objective, with an estimator of the second layer's gradient: the surrogate of V."""
        estimated = copy.copy(self)
        estimated._second_estimator = second_estimator  # noqa: SLF001  (of the same class)
        return estimated

    def f(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the integrand log p(x|z1) + Vhat(z1), (S, *R, B, D) to (S, *R, B); its gradient too is an estimate.

        Raise ``EstbenchError`` if gradients are on and no estimator of the second layer was given.
        """
        return self._count(z) + self._second_value(z)

    def log_weight(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the log importance weight of both layers, one draw of z2 for each z1, (S, *R, B, D) to (S, *R, B)."""
        second = self.second(z)
        weight = second.log_weight(second.q.sample((1,))).squeeze(0)
        self.evaluations += second.evaluations
        return self._count(z) + weight - (q or self.q).log_prob(z)

    def bound_terms(self, z: Tensor) -> BoundTerms:
        """Return terms of the true bounds, (S, *R, B) each, with one draw of z2 for each z1; see ``Objective``.

        The entropy of q(z1|x) and the KL of the second layer are in closed form.
        """
        second = self.second(z)
        value, weight, _ = (term.squeeze(0) for term in second.bound_terms(second.q.sample((1,))))
        self.evaluations += second.evaluations
        log_likelihood = self._count(z)
        log_weight = log_likelihood + weight - self.q.log_prob(z)
        return BoundTerms(log_likelihood + value - self.kl(), log_weight, log_likelihood)

    def exact(self) -> Tensor:
        """Return L as a sum over all values of both layers, (*R, B); ``EstbenchError`` for more than ``ENUMERABLE``."""
        values = states(self.q, ENUMERABLE)
        ones = [1] * len(self.batch_shape)
        if values is not None:
            z = values.view(-1, *ones, *self.q.event_shape).expand(-1, *self.batch_shape, *self.q.event_shape)
            second = self.second(z)
            others = states(second.q, ENUMERABLE // len(values))
            if others is not None:
                value = self._count(z) + second.exact()
                self.evaluations += second.evaluations
                return (self.q.log_prob(z).exp() * value).sum(0) - self.kl()
        raise EstbenchError(
            f"this objective has no exact value: its two layers of latents have more than {ENUMERABLE} values together;"
            " take fewer latents (6 bits in each layer, say)"
        )

    def _second_value(self, z: Tensor) -> Tensor:
        second = self.second(z)
        with torch.no_grad():
            theta = second.q.mean
            if self._noise is None:
                self._noise = torch.rand(*self.batch_shape, theta.shape[-1], dtype=theta.dtype, device=theta.device)
            value = second.f((self._noise < theta).to(theta)[None]).squeeze(0) - second.kl()
        if torch.is_grad_enabled():
            if self._second_estimator is None:
                raise EstbenchError(
                    "the second layer of this problem has no estimator;"
                    " make one for both layers by estimators.create_for(variant, problem)"
                )
            surrogate = self._second_estimator(second)
            value = value + (surrogate - surrogate.detach())
        self.evaluations += second.evaluations
        return value


def _no_prior() -> Distribution:
    raise EstbenchError(
        "the estimator asks for the prior of the first of two layers, which is p(z1|z2) and no fixed distribution;"
        " choose another estimator, or other options of it"
    )
