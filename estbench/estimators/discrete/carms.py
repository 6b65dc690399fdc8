r"""Negatively dependent samples of categories, by stick-breaking: the bits of each stick come from a copula.

The categories of each latent are put in ascending order of their probabilities, p_1 <= ... <= p_C. Stick c is broken
with probability psi_c = p_c / (p_c + ... + p_C), which is at most 1/2 for c < C; a sample is the first broken stick, or
C. S samples have S uniforms for each stick, exchangeable and negatively dependent, and independent between sticks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, from_one_hot
from estbench.estimators._surrogates import gradient_carrier
from estbench.estimators.base import Estimator, register
from estbench.estimators.discrete.arms import ARMS, COPULAS
from estbench.problems import Objective


@register("carms")
class CARMS(Estimator):
    r"""ARMS for categories (Dimitriev and Zhou, 2021, arXiv:2110.14002), with samples by stick-breaking.

        grad_{eta_d} E_q[f] ~ 1/(S(S-1)) sum_{s < r} w_d(z_sd, z_rd) (f(z_s) - f(z_r)) (z_sd - z_rd)
        w_d(i, j) = p_i p_j / P(z_sd = i, z_rd = j)   for i != j

    With independent samples w = 1, and this is ``rloo``. Here two samples of a latent fall rarely into one category,
    where their difference is wasted, and w corrects that. Given both values of latent d, the other latents of z_s come
    from q, whatever those of z_r are; so for each latent its own w makes the mean exact. In the order of the sticks,

        w(i, j) = k_i prod_{c < i} (1 - psi_c) / (1 - psi_c / k_c)   for i < j,
        k_c = psi_c (1 - psi_c) / (psi_c - P(both break stick c))

    with the k of ``arms`` and of its copula. Every pair of categories has a positive probability, because psi_c <= 1/3
    for all sticks but the last: without the ascending order, some pairs may have none, and the estimate a bias.

    With two categories it is ``arms``. With two samples it is DisARM-IW (Dong, Mnih and Tucker, 2021,
    arXiv:2106.08056), whose pairs come from antithetic sticks. The paper also has samples by the inverse of the
    distribution function and by Gumbel noise; these are not here.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("carms")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "leave-one-out on negatively dependent samples of categories"
    reference = "dimitriev2021carms"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("carms[num_samples=2]", "carms[copula=gaussian]")

    class Options(ARMS.Options):
        """Options of ``carms``: those of ``arms``."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        logits, samples = as_categorical_logits(objective), self.options.num_samples
        uniforms, factor = COPULAS[self.options.copula]
        order, psi = sticks(logits.detach())
        places = first_broken(uniforms(psi.new_empty(samples, *psi.shape)) < psi)  # (S, *R, B, D)
        indices = order.expand(samples, *order.shape).gather(-1, places[..., None])
        one_hot = F.one_hot(indices.squeeze(-1), logits.shape[-1]).to(logits)
        f = objective.f(from_one_hot(objective, one_hot), objective.frozen_q())
        values = f.detach()
        weights = pair_weights(psi, factor(psi, samples), places)  # (S, S, *R, B, D)
        signal = (weights * (values[:, None] - values)[..., None]).sum(1) / (samples * (samples - 1))
        gradient = (signal[..., None] * one_hot).sum(0)
        return f.mean(0) + gradient_carrier(logits, gradient, 2) - objective.kl()


def sticks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the categories in ascending order of probability, (*B, C), and psi of all sticks but the last, (*B, C-1).

    A stick of a category without any mass has a psi of the smallest number above zero.
    """
    log_p, order = logits.log_softmax(-1).sort(-1)
    rest = log_p.flip(-1).logcumsumexp(-1).flip(-1)
    psi = (log_p - rest)[..., :-1].exp()
    return order, psi.clamp(torch.finfo(psi.dtype).tiny, 0.5)


def first_broken(broken: Tensor) -> Tensor:
    """Return the place of the first broken stick, (..., C-1) to (...); the last of C places if none is broken."""
    return (~broken).long().cumprod(-1).sum(-1)


def pair_weights(psi: Tensor, factor: Tensor, places: Tensor) -> Tensor:
    """Return w for each pair of samples, (S, S, *B), from psi and k, (*B, C-1), and their places, (S, *B).

    It is zero where both have the same place: their difference is zero, too.
    """
    passed = (1 - psi[..., :-1]) / (1 - psi[..., :-1] / factor[..., :-1])
    before = torch.cat([torch.ones_like(psi[..., :1]), passed.cumprod(-1)], -1)
    first = torch.minimum(places[:, None], places)
    table = (factor * before).expand(*first.shape, psi.shape[-1])
    weights = table.gather(-1, first.clamp(max=psi.shape[-1] - 1)[..., None]).squeeze(-1)
    return torch.where(places[:, None] == places, 0.0, weights)
