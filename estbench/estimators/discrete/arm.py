"""Antithetic pairs of bits: ARM, and DisARM, which is ARM with its continuous noise averaged out."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import open_uniform
from estbench.estimators._surrogates import gradient_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


class PairOptions(BaseOptions):
    """Options of ``arm`` and of ``disarm``."""

    num_pairs: int = Field(default=1, ge=1, description="the antithetic pairs of each example")


def antithetic_bits(logits: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Return uniform noise u, (P, *B, D), and the bits 1[u > 1 - theta] and 1[u < theta], stacked: (2, P, *B, D)."""
    u = open_uniform(logits.new_empty(pairs, *logits.shape))
    return u, torch.stack([u > (-logits).sigmoid(), u < logits.sigmoid()]).to(logits)


@register("arm")
class ARM(Estimator):
    r"""Augment-REINFORCE-merge (Yin and Zhou, 2019, arXiv:1807.11143).

        u ~ U(0, 1)^D,   b = 1[u > 1 - theta],   b' = 1[u < theta]
        grad_logits E_q[f] = E_u[(f(b) - f(b')) (u - 1/2)]

    Each of the pair is a sample of q, so both give the decoder's gradient. The formula is the gradient with respect
    to the *logits*; with respect to probabilities it is wrong.

    Requires bits, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("arm")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    Options = PairOptions
    summary = "score function on antithetic pairs of bits"
    reference = "yin2019"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = False

    def __init__(self, options: PairOptions | None = None) -> None:
        super().__init__(options)
        self.evaluations = 2 * self.options.num_pairs

    def forward(self, objective: Objective) -> Tensor:
        u, bits = antithetic_bits(objective.params["logits"].detach(), self.options.num_pairs)
        f = objective.f(bits.flatten(0, 1), objective.frozen_q())
        first, second = f.detach().view(bits.shape[:-1])
        return gradient_surrogate(objective, f, ((first - second)[..., None] * (u - 0.5)).mean(0))


@register("disarm")
class DisARM(Estimator):
    r"""DisARM (Dong, Mnih and Tucker, 2020, arXiv:2006.10680), also found as U2G (Yin et al., 2020, arXiv:2006.06448).

        grad_logits E_q[f] = E_u[(1/2) (f(b) - f(b')) (-1)^{b'} 1[b != b'] sigmoid(|logit|)]

    with the pairs (b, b') of ARM, of which this is the expectation given the pair: never noisier. The noise is zero
    for one fair coin.

    Requires bits, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("disarm")(objective).mean().backward()
    >>> problem.logits.grad  # exact for one fair coin
    tensor([-0.0250])
    """

    Options = PairOptions
    summary = "ARM, averaged over the noise that gives the same pair of bits"
    reference = "dong2020"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = False

    def __init__(self, options: PairOptions | None = None) -> None:
        super().__init__(options)
        self.evaluations = 2 * self.options.num_pairs

    def forward(self, objective: Objective) -> Tensor:
        logits = objective.params["logits"].detach()
        _, bits = antithetic_bits(logits, self.options.num_pairs)
        f = objective.f(bits.flatten(0, 1), objective.frozen_q())
        first, second = f.detach().view(bits.shape[:-1])
        # b - b' is (-1)^{b'} where the two differ, and zero where they do not.
        gradient = 0.5 * (first - second)[..., None] * (bits[0] - bits[1]) * logits.abs().sigmoid()
        return gradient_surrogate(objective, f, gradient.mean(0))
