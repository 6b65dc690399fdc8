"""Relaxed bits: the pathwise gradient of another objective."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import logistic_perturbed
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("concrete")
class Concrete(Estimator):
    r"""Binary Concrete relaxation (Maddison, Mnih and Teh, 2017, arXiv:1611.00712; Jang, Gu and Poole, 2017).

        y = (logit theta + l) / lambda,   l ~ Logistic,   z = sigmoid(y):   surrogate = log p(x|z) - KL

    The bits are relaxed, in the encoder's gradient and in the decoder's, so both are biased for L; less so, and
    noisier, as the temperature lambda falls. Judge it by the bound of the discrete model. ``kl`` chooses the other
    half:

    * ``bernoulli``: the KL of the bits, as the problem has it. A mixed objective, which bounds nothing.
    * ``concrete``: log q(y) - log p(y), both relaxed at the same temperature. A bound for the relaxed model.

    Requires bits, and the derivative of f between 0 and 1; ``kl=concrete`` also the density of the prior.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("bernoulli_toy[bits=3]")(torch.zeros(5, 1))  # 5 independent copies of the toy
    >>> estimators.create("concrete[temperature=0.3]")(objective).shape
    torch.Size([5])
    """

    summary = "pathwise gradient through relaxed bits"
    reference = "maddison2017"
    supports = frozenset({"bernoulli"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1
    variants = ("concrete[kl=concrete]",)

    scheduled = frozenset({"temperature"})

    class Options(BaseOptions):
        """Options of ``concrete``."""

        temperature: float = Field(default=0.5, gt=0, description="lambda, how soft the bits are")
        kl: Literal["bernoulli", "concrete"] = Field(
            default="bernoulli", description="the KL of the bits, or that of the relaxed bits"
        )

    def forward(self, objective: Objective) -> Tensor:
        logits, temperature = objective.params["logits"], self.options.temperature
        y = logistic_perturbed(logits, (1,)) / temperature
        z = y.sigmoid()
        if self.options.kl == "bernoulli":
            return objective.f(z).mean(0) - objective.kl()
        log_likelihood = objective.log_weight(z) - objective.prior.log_prob(z) + objective.q.log_prob(z)
        prior: Any = objective.prior
        prior_logits = prior.base_dist.logits
        log_ratio = _log_density(y, prior_logits, temperature) - _log_density(y, logits, temperature)
        return (log_likelihood + log_ratio).mean(0)


def _log_density(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return the log-density of y = (logits + l) / temperature, (S, *B, D) to (S, *B), less log temperature."""
    noise = temperature * y - logits
    return (-noise - 2 * F.softplus(-noise)).sum(-1)
