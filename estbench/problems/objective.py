"""The objective of one minibatch: what a problem gives to an estimator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.errors import EstbenchError
from estbench.latents import closed_form_kl, frozen, log_densities, states, without_stale_caches
from estbench.problems.linear_layers import LinearLayers

# The most values of q, or K-tuples of them, for an exact sum: 12 bits.
ENUMERABLE = 4096
Family = Callable[[Mapping[str, Tensor]], Distribution]


class BoundTerms(NamedTuple):
    """Terms of the true bounds at samples of q, in nats, (S, *R, B) each.

    ``elbo`` has the ELBO as its mean, ``log_likelihood`` that of its first part, E_q[log p(x|z)];
    ``log_weight`` is log p(x, z) - log q(z|x).
    """

    elbo: Tensor
    log_weight: Tensor
    log_likelihood: Tensor


@dataclass(frozen=True)
class DataIndex:
    """Which of the training examples each one of a minibatch is, for a q that belongs to all the data.

    ``index`` is (B,), of integers from 0 to ``count`` - 1. L of the data is the mean of L over all ``count`` examples.
    """

    index: Tensor
    count: int


class Objective:
    r"""The bound L of one minibatch, one value per example; to be maximised.

        L   = E_{q(z)}[f(z)] - KL                              the ELBO
        L_K = E[log (1/K) sum_k p(x, z_k) / q(z_k)]            the multi-sample bound of K > 1 importance samples

    In the ELBO the KL divergence stands apart if it is analytic: f(z) = log p(x|z). If it is sampled, f holds it:
    f(z) = log p(x|z) + log p(z) - log q(z). Either way L is the same number. The multi-sample bound
    (Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519) is made from ``log_weight``.

    With ``kl_weight`` = w, training ascends E_q[log p(x|z)] - w KL (beta-VAE, warm-up), and ``f``, ``kl`` and
    ``log_weight`` all hold the w. The bounds that are reported are the true ones, of w = 1: see ``bound_terms``.

    Sizes: S samples, B examples, D latents; ``*R`` are any further batch dimensions, none in training and the
    replicates in a probe. A sample's event is (D,), or (D, C) for one-hot vectors of C categories.

    Parameters
    ----------
    params
        The variational parameters by name, each (*R, B, D), or (*R, B, D, C).
    family
        Builds q from such parameters.
    log_likelihood
        log p(x|z) in nats: (S, *R, B, D) to (S, *R, B).
    prior
        Builds p(z), with the event shape of q; called when it is first needed.
    context
        The observations, (B, X): the input of learned baselines.
    kl
        KL(q || p) in closed form and in nats, () to (*R, B); if None, it is sampled within f. Its weight belongs into
        ``kl_weight``. Estimators that use the densities refuse an objective whose ``kl`` is something else.
    importance_samples
        K, 1 for the ELBO.
    expectation
        L in closed form, () to (*R, B), or None; finite latents need none, because they are enumerated.
    kl_weight
        The weight of the KL in L, at least 0: a number, or a tensor that broadcasts to (*R, B).
    data_index
        Which training examples these are, if q belongs to all the data: for estimators with a state for each of them.

    Raises
    ------
    EstbenchError
        For a ``kl_weight`` that is negative or infinite, or that weights a multi-sample bound.

    Examples
    --------
    A training loop of your own needs no more than an objective and an estimator. Here log p(x|z) = log N(2; z, 1) and
    p(z) = N(0, 1), so the posterior is N(1, 1/2).

    >>> import torch
    >>> from estbench import estimators
    >>> from estbench.latents import NormalLatents
    >>> from estbench.problems import Objective
    >>> normal = NormalLatents(1)
    >>> loc = torch.zeros(1, 1, requires_grad=True)
    >>> estimator = estimators.create("stl")
    >>> optimiser = torch.optim.SGD([loc], lr=0.1)
    >>> for step in range(40):
    ...     objective = Objective(
    ...         {"loc": loc, "log_scale": torch.full((1, 1), -0.3466)},
    ...         normal.family,
    ...         lambda z: torch.distributions.Normal(z, 1.0).log_prob(torch.tensor(2.0)).sum(-1),
    ...         lambda: normal.family({"loc": torch.zeros(1), "log_scale": torch.zeros(1)}),
    ...     )
    ...     optimiser.zero_grad()
    ...     (-estimator(objective).mean()).backward()
    ...     optimiser.step()
    >>> round(loc.item(), 2)
    1.0
    """

    linear_layers: LinearLayers | None = None  # of a network whose weights are z; for estimators that act within it

    def __init__(
        self,
        params: Mapping[str, Tensor],
        family: Family,
        log_likelihood: Callable[[Tensor], Tensor],
        prior: Callable[[], Distribution],
        context: Tensor | None = None,
        kl: Callable[[], Tensor] | None = None,
        importance_samples: int = 1,
        expectation: Callable[[], Tensor] | None = None,
        kl_weight: float | Tensor = 1.0,
        data_index: DataIndex | None = None,
    ) -> None:
        self.kl_weight = kl_weight
        if self.weighted and importance_samples > 1:
            raise EstbenchError("a multi-sample bound has no KL to be weighted; drop kl_weight, or take one sample")
        if not isinstance(kl_weight, Tensor) and not 0 <= kl_weight < math.inf:
            raise EstbenchError(f"kl_weight must be a finite number of at least 0, got {kl_weight}")
        self.params = params
        self.context = context
        self.data_index = data_index
        self.importance_samples = importance_samples
        self.evaluations = 0
        self._family = family
        self._q = without_stale_caches(family(params))
        self._made_live = not _in_inference_mode()
        self._prior = prior
        self._made_prior: Distribution | None = None
        self._log_likelihood = log_likelihood
        self._kl = kl
        self._expectation = expectation
        # Members that an estimator may not use on this objective, with the reason; set where estimators are checked.
        self.refused: Mapping[str, str] = {}

    # Both distributions are made once, with their graph, in whichever gradient mode they are first asked for: a call of
    # f under no_grad leaves them live. In inference mode nothing is kept, because no gradient can ever pass through it:
    # neither they nor the tensors that torch computes from them when they are first needed (logits from probs).

    @property
    def q(self) -> Distribution:
        """q(z)."""
        if self._made_live and _in_inference_mode():
            return self.build_q(self.params)
        return self._q

    @property
    def prior(self) -> Distribution:
        """p(z), with the event shape of q."""
        self._check_member("prior")
        return self._p

    @property
    def _p(self) -> Distribution:
        if _in_inference_mode():
            return self._prior()
        if self._made_prior is None:
            with torch.enable_grad():
                self._made_prior = self._prior()
        return self._made_prior

    @property
    def samples_kl(self) -> bool:
        """Whether the KL is sampled, within f."""
        return self._kl is None

    @property
    def weighted(self) -> bool:
        """Whether the KL has another weight than 1 in L; a tensor always counts as one."""
        return isinstance(self.kl_weight, Tensor) or self.kl_weight != 1

    @property
    def batch_shape(self) -> torch.Size:
        """The batch dimensions, (*R, B)."""
        return self._q.batch_shape

    @property
    def device(self) -> torch.device:
        """The device of the variational parameters."""
        return next(iter(self.params.values())).device

    def with_q(self, params: Mapping[str, Tensor], q: Distribution) -> Objective:
        """Return the same objective at other parameters, with a given q."""
        twin = copy.copy(self)
        twin.params, twin._q, twin._made_live = params, q, False  # noqa: SLF001
        return twin

    def f(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the integrand, (S, *R, B, D) to (S, *R, B), in nats; it counts evaluations.

        It is live in z, in the model's weights and, with a sampled KL, in q.

        A score-function estimator passes ``frozen_q()`` for q: the direct gradient of -log q has mean zero, so
        leaving it out removes noise and nothing else.
        """
        log_likelihood = self._count(z)
        return self._with_densities(log_likelihood, z, q) if self.samples_kl else log_likelihood

    def kl(self) -> Tensor:
        """Return the analytic part of L, w KL(q || p), (*R, B), in nats; zero if f carries the sampled KL."""
        if self._kl is not None:
            return self.kl_weight * self._kl() if self.weighted else self._kl()
        return next(iter(self.params.values())).new_zeros(self.batch_shape)

    def log_weight(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the integrand with a sampled KL, (S, *R, B, D) to (S, *R, B), whichever KL is in use.

        log p(x|z) + w (log p(z) - log q(z)): at w = 1 the log importance weight log p(x, z) - log q(z). Raises
        ``EstbenchError`` if ``kl`` is not w KL(q || p), because the two would disagree.
        """
        self._check_member("log_weight")
        return self._with_densities(self._count(z), z, q)

    def bound_terms(self, z: Tensor) -> BoundTerms:
        """Return the terms of the true bounds at samples of q, (S, *R, B, D).

        The KL in the ELBO's is in closed form wherever torch has one, whichever KL training uses, with any weight.
        """
        log_likelihood = self._count(z)
        q, p = self.q, self._p
        log_q, log_p = log_densities(q, p, z)
        log_weight = log_likelihood + log_p - log_q
        kl = closed_form_kl(q, p)
        return BoundTerms(log_weight if kl is None else log_likelihood - kl, log_weight, log_likelihood)

    def exact(self) -> Tensor:
        """Return L itself, (*R, B), without sampling noise: in closed form, or as a sum over all values of q.

        Raises ``EstbenchError`` if there is neither: continuous latents, or more than ``ENUMERABLE`` values.
        """
        if self._expectation is not None:
            return self._expectation()
        values = states(self.q, ENUMERABLE)
        if values is None or len(values) ** self.importance_samples > ENUMERABLE:
            raise EstbenchError(
                "this objective has no exact value: its latents are continuous, or have more than"
                f" {ENUMERABLE} values; take fewer latents (12 bits, say)"
            )
        ones = [1] * len(self.batch_shape)
        z = values.view(-1, *ones, *self.q.event_shape).expand(-1, *self.batch_shape, *self.q.event_shape)
        log_q = self.q.log_prob(z)
        if self.importance_samples == 1:
            return (log_q.exp() * self.f(z)).sum(0) - self.kl()
        draws = torch.cartesian_prod(*[torch.arange(len(values), device=z.device)] * self.importance_samples)
        bound = self.log_weight(z)[draws].logsumexp(1) - math.log(self.importance_samples)
        return (log_q[draws].sum(1).exp() * bound).sum(0)

    def frozen_q(self) -> Distribution:
        """Rebuild q from detached parameters: gradients pass only through z."""
        return frozen(self.build_q({name: value.detach() for name, value in self.params.items()}))

    def build_q(self, params: Mapping[str, Tensor]) -> Distribution:
        """Build q from other parameters, of the same names and of any batch dimensions."""
        return without_stale_caches(self._family(params))

    def _with_densities(self, log_likelihood: Tensor, z: Tensor, q: Distribution | None) -> Tensor:
        log_p, log_q = self._p.log_prob(z), (q or self.q).log_prob(z)
        if self.weighted:
            return log_likelihood + self.kl_weight * (log_p - log_q)
        return log_likelihood + log_p - log_q

    def _check_member(self, name: str) -> None:
        if name in self.refused:
            raise EstbenchError(self.refused[name])

    def _count(self, z: Tensor) -> Tensor:
        shape = z.shape[: z.dim() - len(self._q.event_shape)]
        self.evaluations += shape.numel()
        value = self._log_likelihood(z)
        if value.shape != shape:  # it would broadcast, and give a wrong gradient without a word
            raise EstbenchError(
                f"log_likelihood gives {tuple(value.shape)} for z of {tuple(z.shape)}, and must give {tuple(shape)}:"
                " one number for each sample and example; sum over the pixels alone, .sum(-1)"
            )
        return value


def _in_inference_mode() -> bool:
    """Whether no gradient can ever pass; a step that is compiled is never in inference mode, and cannot ask for it."""
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
