"""The unordered set estimator: draws without replacement, averaged over the order of the draws."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._product_space import decode, log_probabilities, sample_without_replacement
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("unordered-set")
class UnorderedSet(Estimator):
    r"""Unordered set estimator (Kool, van Hoof and Welling, 2020, arXiv:2002.06043).

        S: k values drawn from q without replacement, in any order
        grad E_q[f] ~ sum_{s in S} q(s) R(S, s) (f(s) - b_s) grad log q(s)
        R(S, s) = p(S given that s was first) / p(S)
        b_s = sum_{t in S} q(t) R_s(S, t) f(t),   R_s the same ratio of what follows s;   R_s(S, s) = 1

    The leave-one-out ratio R averages ``sum-and-sample`` over the orders in which S can have come: without baselines
    its variance is never smaller. b_s estimates E[f] from the whole set as drawn after s; its mean is E[f] whichever
    s was first, so the estimate stays unbiased. ``baseline=none`` takes b = 0.

    The values are those of all D latents together, C^D in number, drawn by stochastic beam search. If each has next to
    no mass, q(s) R -> 1/k and b_s -> the mean of the others: ``rloo``. If q is concentrated, or k is C^D, it is the sum
    over the support. The ratios take 2^k terms.

    Requires bits or categories with at least k joint values, and raises ``EstbenchError`` for fewer; and only values
    of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("unordered-set[num_samples=2]")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=4)  # exact, because both values of the bit are drawn
    tensor([-0.0250])
    """

    summary = "score function over values drawn without replacement, whatever their order"
    reference = "kool2020"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("unordered-set[baseline=none]",)

    class Options(BaseOptions):
        """Options of ``unordered-set``."""

        num_samples: int = Field(default=4, ge=2, le=10, description="k, the values that are drawn")
        baseline: Literal["built-in", "none"] = Field(default="built-in", description="b_s: as above, or zero")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        log_p = log_probabilities(objective, self.options.num_samples)
        z = decode(objective, sample_without_replacement(log_p, self.options.num_samples))
        f = objective.f(z, objective.frozen_q())
        log_q = objective.q.log_prob(z)
        weights, others = leave_one_out_ratios(log_q.detach())
        signal = f.detach()
        if self.options.baseline == "built-in":
            signal = signal - (others * signal).sum(1)
        return (weights * (f + signal * log_q)).sum(0) - objective.kl()


def leave_one_out_ratios(log_q: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return q(s) R(S, s), (k, *batch), and q(t) R_s(S, t), (k, k, *batch) with s first, from log q of S, (k, *batch).

    With A the values drawn so far and H(A) the probability that the rest of S follows them,

        H(S) = 1,   H(A) = sum_{t in S - A} q(t) H(A + t) / (1 - q(A)),   p(S) = H({})

    Sums of positive terms in the log domain: accurate also if q(s) is 1e-20, or if S has all the mass but 1e-20. (An
    alternating sum over subsets gives the same number, and loses all its digits there.)
    """
    count = len(log_q)
    rest = torch.log(-torch.expm1(log_q.logsumexp(0)).clamp(max=0))  # of the mass outside of S
    everything = (1 << count) - 1
    follow = {everything: torch.zeros_like(rest)}  # log H, by the set A as a bit mask
    for drawn in range(everything - 1, -1, -1):
        left = [t for t in range(count) if not drawn >> t & 1]
        chance = torch.stack([log_q[t] + follow[drawn | 1 << t] for t in left]).logsumexp(0)
        follow[drawn] = chance - torch.logaddexp(rest, torch.stack([log_q[t] for t in left]).logsumexp(0))
    first = torch.stack([log_q[s] + follow[1 << s] - follow[0] for s in range(count)])
    second = [
        torch.stack([log_q[t] + (follow[1 << s | 1 << t] - follow[1 << s] if s != t else 0) for t in range(count)])
        for s in range(count)
    ]
    return first.exp(), torch.stack(second).exp()
