"""Part of the expectation as a sum, the rest by a sample: Rao-Blackwellised score functions."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._product_space import (
    decode,
    log_probabilities,
    most_probable,
    sample_excluding,
    sample_without_replacement,
)
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("top-k")
class TopK(Estimator):
    r"""Rao-Blackwellised top-k (Liu, Regier, Tripuraneni, Jordan and McAuliffe, 2019, arXiv:1810.04777).

        grad E_q[f] ~ sum_{z in T} q(z) (f(z) - b) grad log q(z) + (1 - q(T)) (f(z') - b) grad log q(z')
        T: the k most probable values,   z' ~ q given that it is not in T

    The values are those of all D latents together, C^D in number, and T is found exactly. It is worth its cost if q is
    concentrated; if T has next to no mass, the k evaluations only give a baseline.

    ``baseline=sum`` takes b = sum_{z in T} q(z) f(z) / q(T), which depends on no sample; ``none`` takes b = 0.

    Requires bits or categories with at least k + 1 joint values, and raises ``EstbenchError`` for fewer; and only
    values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("top-k[top=1]")(objective).mean().backward()
    >>> problem.logits.grad  # exact, because one value and the other are all
    tensor([-0.0250])
    """

    summary = "sum over the k most probable values, score function for one sample of the rest"
    reference = "liu2019"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("top-k[baseline=none]",)

    class Options(BaseOptions):
        """Options of ``top-k``."""

        top: int = Field(default=3, ge=1, description="k, the most probable values that are summed over")
        baseline: Literal["sum", "none"] = Field(
            default="sum", description="b: the mean of f over the sum's values, weighted by q, or zero"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.top + 1

    def forward(self, objective: Objective) -> Tensor:
        log_p = log_probabilities(objective, self.options.top + 1)
        top = most_probable(log_p, self.options.top)
        return _surrogate(objective, torch.cat([top, sample_excluding(log_p, top)]), self.options.baseline)


@register("sum-and-sample")
class SumAndSample(Estimator):
    r"""Stochastic sum-and-sample (Liang et al., 2018, arXiv:1807.02322; Kool, van Hoof and Welling, 2020, sec. 4).

        z_1, ..., z_k drawn from q without replacement,   r = 1 - sum_{i < k} q(z_i)
        grad E_q[f] ~ sum_{i < k} q(z_i) (f(z_i) - b) grad log q(z_i) + r (f(z_k) - b) grad log q(z_k)

    Unbiased whichever the first k - 1 are, because z_k is a draw from q without them. So b may depend on all of them:
    ``baseline=sum`` takes their mean of f, weighted by q; ``none`` takes b = 0. The values are those of all D latents
    together, drawn by stochastic beam search.

    Requires bits or categories with at least k joint values, and raises ``EstbenchError`` for fewer; and only values
    of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("sum-and-sample[num_samples=2]")(objective).mean().backward()
    >>> problem.logits.grad  # exact, because both values of the bit are drawn
    tensor([-0.0250])
    """

    summary = "draws without replacement: the sum over all but the last, which stands for the rest"
    reference = "liang2018"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("sum-and-sample[baseline=none]",)

    class Options(BaseOptions):
        """Options of ``sum-and-sample``."""

        num_samples: int = Field(default=4, ge=2, description="k, the values that are drawn")
        baseline: Literal["sum", "none"] = Field(
            default="sum", description="b: the mean of f over the sum's values, weighted by q, or zero"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        log_p = log_probabilities(objective, self.options.num_samples)
        return _surrogate(objective, sample_without_replacement(log_p, self.options.num_samples), self.options.baseline)


def _surrogate(objective: Objective, indices: Tensor, baseline: str) -> Tensor:
    """Return the sum over all values but the last one, which is a sample of the rest: (k, *R, B, D) to (*R, B)."""
    z = decode(objective, indices)
    f = objective.f(z, objective.frozen_q())
    log_q = objective.q.log_prob(z)
    log_summed = log_q.detach()[:-1]
    rest = -torch.expm1(log_summed.logsumexp(0, keepdim=True)).clamp(max=0)
    weights = torch.cat([log_summed.exp(), rest])
    signal = f.detach()
    if baseline == "sum":
        signal = signal - (log_summed.softmax(0) * signal[:-1]).sum(0)
    return (weights * (f + signal * log_q)).sum(0) - objective.kl()
