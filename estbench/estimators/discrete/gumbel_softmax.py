"""Gumbel-softmax gradients: categorical samples made soft, in the sample itself or in its Jacobian alone."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, Independent

from estbench.estimators._noise import as_categorical_logits, to_one_hot, gumbel_perturbed, gumbel_perturbed_given_argmax
from estbench.estimators._surrogates import softmax_jacobian, straight_through_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("gumbel-softmax")
class GumbelSoftmax(Estimator):
    r"""Gumbel-softmax, or Concrete, relaxation (Jang, Gu and Poole, 2017, arXiv:1611.01144; Maddison, Mnih and Teh,
    2017, arXiv:1611.00712).

        y = softmax((eta + G) / tau),  G_c ~ Gumbel(0, 1):   grad E_q[f(z)] ~ grad f(y(eta, G))

    This is the exact gradient of another objective, in which encoder and decoder see y in place of the one-hot z:
    its bias falls and its variance grows as tau goes to 0. The bounds that are reported are those of the discrete
    model. The KL of that other objective is a choice:

    * ``kl=discrete``: the problem's own, of the one-hot vectors. Less noise, and no bound on anything: the mixture of
      a relaxed reconstruction with a discrete KL.
    * ``kl=concrete``: log q(y) - log p(y) with the densities of the Concrete distribution at the same tau, sampled. A
      true lower bound, of the relaxed model. Both densities have the same factor prod_c y_c^{-tau - 1}, which cancels:

        log q(y) = sum_c eta_c - C log sum_c exp(eta_c - tau log y_c) + what q and p share
    """  # noqa: D205

    summary = "pathwise gradient of a relaxed sample: biased for the discrete model"
    reference = "jang2017"
    supports = frozenset({"categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1
    variants = ("gumbel-softmax[kl=concrete]",)

    class Options(BaseOptions):
        """What may be chosen."""

        temperature: float = Field(default=0.5, gt=0)
        kl: Literal["discrete", "concrete"] = "discrete"

    def forward(self, objective: Objective) -> Tensor:
        temperature = self.options.temperature
        log_y = (gumbel_perturbed(as_categorical_logits(objective), (1,)) / temperature).log_softmax(-1)
        y = log_y.exp()
        if self.options.kl == "discrete":
            return objective.f(y).mean(0) - objective.kl()
        log_likelihood = objective.log_weight(y) - objective.prior.log_prob(y) + objective.q.log_prob(y)
        q, p = (concrete_log_density(log_y, logits_of(d), temperature) for d in (objective.q, objective.prior))
        return (log_likelihood - (q - p).sum(-1)).mean(0)


@register("st-gumbel")
class STGumbel(Estimator):
    r"""Straight-through Gumbel-softmax (Jang, Gu and Poole, 2017, arXiv:1611.01144).

        z = one-hot argmax(eta + G),   y = softmax((eta + G) / tau),   dz/deta := dy/deta = J(y) / tau

    f is evaluated at the hard sample, so the decoder's gradient is right. The encoder's is biased, and its variance
    grows without bound as tau goes to 0.
    """

    summary = "hard sample, with the Jacobian of its Gumbel-softmax relaxation"
    reference = "jang2017"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    class Options(BaseOptions):
        """What may be chosen."""

        temperature: float = Field(default=0.5, gt=0)

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        noisy = gumbel_perturbed(logits.detach(), (1,))
        hard = F.one_hot(noisy.argmax(-1), logits.shape[-1]).to(logits)
        return straight_through_surrogate(objective, hard, _tangent(noisy, logits, self.options.temperature))


@register("gumbel-rao")
class GumbelRao(Estimator):
    r"""Rao-Blackwellised straight-through Gumbel-softmax (Paulus, Maddison and Krause, 2021, arXiv:2010.04838).

        dz/deta := E[J(y) / tau | z] ~ (1/M) sum_m J(y_m) / tau,   y_m = softmax((eta + G_m) / tau),   G_m ~ p(G | z)

    f sees z alone, so the rest of the noise can be averaged at no evaluation of f: the same mean as ``st-gumbel``,
    and never a larger variance. The Jacobian is that of y at *fixed* G, as there; to differentiate through the
    conditional draw would estimate something else.
    """

    summary = "st-gumbel with its Jacobian averaged over the noise given the sample"
    reference = "paulus2021"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    class Options(BaseOptions):
        """What may be chosen; ``draws`` is M."""

        temperature: float = Field(default=0.5, gt=0)
        draws: int = Field(default=10, ge=1)

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        noisy = gumbel_perturbed_given_argmax(logits.detach(), hard.expand(self.options.draws, *hard.shape))
        tangent = _tangent(noisy, logits, self.options.temperature).mean(0)
        return straight_through_surrogate(objective, hard, tangent)


def concrete_log_density(log_y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Log-density of a Concrete variable y, (..., D, C) to (..., D), less what all logits have in common."""
    return logits.sum(-1) - logits.shape[-1] * (logits - temperature * log_y).logsumexp(-1)


def logits_of(distribution: Distribution) -> Tensor:
    """The logits, (..., D, C), of independent one-hot vectors."""
    base: Any = distribution.base_dist if isinstance(distribution, Independent) else distribution
    logits: Tensor = base.logits
    return logits


def _tangent(noisy: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """What has the Jacobian of softmax(noisy / temperature) at fixed noise."""
    return softmax_jacobian(torch.softmax(noisy / temperature, -1), logits) / temperature
