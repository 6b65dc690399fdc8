r"""DisARM for categories: a category is the end of a path through a tree of bits.

A tree has C leaves, the categories, and C - 1 nodes, each with one bit: 1 leads to its first branch, 0 to its second.
Node n has the logit alpha_n = log (mass of its first branch) - log (mass of its second).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, from_one_hot
from estbench.estimators._surrogates import gradient_carrier
from estbench.estimators.base import Estimator, register
from estbench.estimators.discrete.arm import PairOptions, antithetic_bits
from estbench.problems import Objective


@register("disarm-tree")
class DisARMTree(Estimator):
    r"""DisARM on the bits of a tree (Dong, Mnih and Tucker, 2021, arXiv:2106.08056): DisARM-SB and DisARM-Tree.

    f is a function of independent bits b_n, so DisARM with antithetic pairs (b, b') of all bits is unbiased. The paths
    to z and z' do not use most of the bits; their average given z and z' is known, and leaves

        grad_{alpha_n} E_q[f] ~ (1/2) (f(z) - f(z')) h_n
        h_n = (b_n - b'_n) sigmoid(|alpha_n|)   where both paths come to node n
              b_n - theta_n                     where only that of z does,   theta_n - b'_n for only that of z'
              0                                 where none does

    The second line is the mean of the first given one of the bits: P(b' = 1 | b = 1) = max(0, 2 - 1/theta), and so on.
    The chain rule takes alpha to the logits.

    ``shape=stick-breaking`` asks "the first category?", "the second?", and so on, in their given order;
    ``balanced`` halves the categories each time. DisARM-IW, the paper's third form, is ``carms[num_samples=2]``.
    With two categories both shapes are ``disarm``.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("disarm-tree")(objective).mean().backward()
    >>> problem.logits.grad  # exact for one fair coin
    tensor([-0.0250])
    """

    summary = "disarm on the bits of a tree that leads to the categories"
    reference = "dong2021"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("disarm-tree[shape=balanced]",)

    class Options(PairOptions):
        """Options of ``disarm-tree``."""

        shape: Literal["stick-breaking", "balanced"] = Field(
            default="stick-breaking", description="the tree: one category at each node, or half of them"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = 2 * self.options.num_pairs

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        branches = tree(logits.shape[-1], self.options.shape, logits.dtype, logits.device)  # (N, C)
        alpha = node_logits(logits, branches)  # (*R, B, D, N), live
        theta = alpha.detach().sigmoid()
        _, bits = antithetic_bits(alpha.detach(), self.options.num_pairs)  # (2, P, *R, B, D, N)
        leaves = reached(bits, branches)  # (2, P, *R, B, D)
        z = from_one_hot(objective, F.one_hot(leaves.flatten(0, 1), logits.shape[-1]).to(logits))
        f = objective.f(z, objective.frozen_q())
        first, second = f.detach().view(leaves.shape[:-1])
        path = branches.T[leaves]  # (2, P, *R, B, D, N): the branch that was taken, 0 off the path
        used = path != 0
        centred = torch.where(used, (path > 0).to(theta) - theta, 0.0)
        # b - b' where both are used; the larger of theta and 1 - theta is sigmoid(|alpha|).
        h = centred[0] - centred[1]
        h = h * torch.where(used.all(0), torch.maximum(theta, 1 - theta), 1.0)
        gradient = 0.5 * ((first - second)[..., None, None] * h).mean(0)
        return f.mean(0) + gradient_carrier(alpha, gradient, 2) - objective.kl()


@lru_cache(maxsize=32)
def tree(categories: int, shape: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tree, (C - 1, C): 1 for the leaves of a node's first branch, -1 for those of its second, else 0.

    It is kept, because a copy to a device waits for it.
    """
    with torch.inference_mode(mode=False):
        branches = torch.zeros(categories - 1, categories, dtype=dtype)
        for node, (low, middle, high) in enumerate(_splits(0, categories, shape)):
            branches[node, low:middle], branches[node, middle:high] = 1, -1
        return branches.to(device)


def _splits(low: int, high: int, shape: str) -> Iterator[tuple[int, int, int]]:
    """Yield the first leaf of each node, that of its second branch, and the end of its leaves."""
    if high - low > 1:
        middle = low + 1 if shape == "stick-breaking" else (low + high) // 2
        yield low, middle, high
        yield from _splits(low, middle, shape)
        yield from _splits(middle, high, shape)


def node_logits(logits: Tensor, branches: Tensor) -> Tensor:
    """Return alpha, (*B, C) to (*B, N), for a tree of (N, C)."""
    above, below = (
        logits[..., None, :].masked_fill(branches != branch, -torch.inf).logsumexp(-1) for branch in (1, -1)
    )
    return above - below


def reached(bits: Tensor, branches: Tensor) -> Tensor:
    """Return the leaf at the end of the path that bits lead to, (*B, N) to (*B): all nodes above it agree with it."""
    agreement = (2 * bits - 1) @ branches - branches.abs().sum(0)
    return agreement.argmax(-1)
