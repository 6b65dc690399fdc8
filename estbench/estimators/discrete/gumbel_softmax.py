"""Gumbel-softmax gradients: categorical samples made soft, in the sample itself or only in its Jacobian."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, Independent

from estbench.estimators._noise import (
    as_categorical_logits,
    gumbel_perturbed,
    gumbel_perturbed_given_argmax,
    to_one_hot,
)
from estbench.estimators._surrogates import softmax_jacobian, straight_through_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("gumbel-softmax")
class GumbelSoftmax(Estimator):
    r"""Gumbel-softmax, or Concrete, relaxation (Jang, Gu and Poole, 2017, arXiv:1611.01144).

    Also by Maddison, Mnih and Teh (2017, arXiv:1611.00712).

        y = softmax((eta + G) / tau),  G_c ~ Gumbel(0, 1):   grad E_q[f(z)] ~ grad f(y(eta, G))

    This is the exact gradient of another objective, in which encoder and decoder see y in place of the one-hot z:
    its bias falls and its variance grows as tau goes to 0. The bounds that are reported are those of the discrete
    model. The KL of that other objective is a choice:

    * ``kl=discrete``: the problem's own, of the one-hot vectors. Less noise, but no bound: it mixes a relaxed
      reconstruction with a discrete KL.
    * ``kl=concrete``: log q(y) - log p(y) with the densities of the Concrete distribution at the same tau, sampled. A
      true lower bound, of the relaxed model. Both densities have the same factor prod_c y_c^{-tau - 1}, which cancels:

        log q(y) = sum_c eta_c - C log sum_c exp(eta_c - tau log y_c) + terms that q and p share

    Requires categories, and the derivative of f between one-hot vectors; ``kl=concrete`` also the density of the prior.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators
    >>> from estbench.latents import CategoricalLatents
    >>> from estbench.problems import Objective
    >>> latents = CategoricalLatents(2, categories=3)
    >>> q, p = {"logits": torch.zeros(5, 2, 3, requires_grad=True)}, {"logits": torch.zeros(2, 3)}
    >>> objective = Objective(
    ...     q, latents.family, lambda z: z[..., 0].sum(-1), lambda: latents.family(p), kl=lambda: latents.kl(q, p)
    ... )
    >>> estimators.create("gumbel-softmax[temperature=0.3]")(objective).shape
    torch.Size([5])
    """

    summary = "pathwise gradient of a relaxed sample: biased for the discrete model"
    reference = "jang2017"
    supports = frozenset({"categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1
    variants = ("gumbel-softmax[kl=concrete]",)

    scheduled = frozenset({"temperature"})

    class Options(BaseOptions):
        """Options of ``gumbel-softmax``."""

        temperature: float = Field(default=0.5, gt=0, description="tau, how soft the vectors are")
        kl: Literal["discrete", "concrete"] = Field(
            default="discrete", description="the KL of the one-hot vectors, or that of the relaxed ones"
        )

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

    ``forward_temperature`` = tau_f gives each pass a temperature of its own (decoupled straight-through: Shah, Yan,
    Mozer and Liu, 2024, arXiv:2410.13331, known here from its abstracts): z = one-hot argmax(eta / tau_f + G), and the
    Jacobian stays what it was, with the same G. Samples are then draws of softmax(eta / tau_f) and not of q, so with
    tau_f other than 1 the decoder's gradient is biased too.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("bernoulli_toy[bits=3]")(torch.zeros(5, 1))  # 5 independent copies of the toy
    >>> estimators.create("st-gumbel")(objective).shape
    torch.Size([5])
    """

    summary = "hard sample, with the Jacobian of its Gumbel-softmax relaxation"
    reference = "jang2017"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1
    variants = ("st-gumbel[forward_temperature=0.5]",)

    scheduled = frozenset({"temperature"})

    class Options(BaseOptions):
        """Options of ``st-gumbel``."""

        temperature: float = Field(default=0.5, gt=0, description="tau, of the softmax in the Jacobian")
        forward_temperature: float = Field(
            default=1.0, gt=0, description="tau_f, of the sample; other than 1 it is no draw of q"
        )
        added = frozenset({"forward_temperature"})

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        noisy = gumbel_perturbed(logits.detach(), (1,))
        drawn = noisy + (1 / self.options.forward_temperature - 1) * logits.detach()  # eta / tau_f + G
        hard = F.one_hot(drawn.argmax(-1), logits.shape[-1]).to(logits)
        return straight_through_surrogate(objective, hard, tangent_at(noisy, logits, self.options.temperature))


@register("gumbel-rao")
class GumbelRao(Estimator):
    r"""Rao-Blackwellised straight-through Gumbel-softmax (Paulus, Maddison and Krause, 2021, arXiv:2010.04838).

        dz/deta := E[J(y) / tau | z] ~ (1/M) sum_m J(y_m) / tau,   y_m = softmax((eta + G_m) / tau),   G_m ~ p(G | z)

    f depends only on z, so the rest of the noise is averaged without further evaluations: the same mean as
    ``st-gumbel``, and never a larger variance. The Jacobian is that of y at *fixed* G, as there; to differentiate
    through the conditional draw would estimate something else.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("bernoulli_toy[bits=3]")(torch.zeros(5, 1))  # 5 independent copies of the toy
    >>> estimators.create("gumbel-rao[draws=20]")(objective).shape
    torch.Size([5])
    """

    summary = "st-gumbel with its Jacobian averaged over the noise given the sample"
    reference = "paulus2021"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    scheduled = frozenset({"temperature"})

    class Options(BaseOptions):
        """Options of ``gumbel-rao``."""

        temperature: float = Field(default=0.5, gt=0, description="tau, of the softmax in the Jacobian")
        draws: int = Field(default=10, ge=1, description="M, the draws of the noise given the sample")

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        noisy = gumbel_perturbed_given_argmax(logits.detach(), hard.expand(self.options.draws, *hard.shape))
        tangent = tangent_at(noisy, logits, self.options.temperature).mean(0)
        return straight_through_surrogate(objective, hard, tangent)


def concrete_log_density(log_y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return the log-density of a Concrete variable y, (..., D, C) to (..., D), less terms without the logits."""
    return logits.sum(-1) - logits.shape[-1] * (logits - temperature * log_y).logsumexp(-1)


def logits_of(distribution: Distribution) -> Tensor:
    """Return the logits, (..., D, C), of independent one-hot vectors."""
    base: Any = distribution.base_dist if isinstance(distribution, Independent) else distribution
    logits: Tensor = base.logits
    return logits


def tangent_at(noisy: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return a tensor with the Jacobian of softmax(noisy / temperature) in the logits, at fixed noise."""
    return softmax_jacobian(torch.softmax(noisy / temperature, -1), logits) / temperature
