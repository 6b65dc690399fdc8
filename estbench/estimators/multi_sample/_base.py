"""The base of estimators of the multi-sample bound, and the algebra of importance weights.

    L_K = E[Lhat],   Lhat = log (1/K) sum_k w_k,   w_k = p(x, z_k) / q(z_k),   v_k = w_k / sum_l w_l

(Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519.) K belongs to the objective, and is no option of an
estimator. Log weights have shape (K, *R, B).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator
from estbench.problems import Objective


class MultiSample(Estimator):
    """Base of these estimators: one evaluation for each of the K importance samples.

    They require the densities of q and of the prior, and an objective with ``importance_samples``.
    """

    bounds = frozenset({"multi-sample"})
    evaluations = "K"

    def count_evaluations(self, objective: Objective) -> int:
        return objective.importance_samples


def bound(log_weights: Tensor, alpha: float = 0.0) -> Tensor:
    """Return Lhat, (K, *batch) to (*batch). Its gradient is sum_k v_k grad log w_k.

    With ``alpha`` it is that of the VR-IWAE bound, log[(1/K) sum_k w_k^(1 - alpha)] / (1 - alpha), and v_k is the share
    of w_k^(1 - alpha).
    """
    return ((1 - alpha) * log_weights).logsumexp(0).sub(math.log(len(log_weights))) / (1 - alpha)


def log_sum_of_others(log_weights: Tensor, guess: Tensor | None = None) -> Tensor:
    """Return log(sum_{l != k} w_l + what_k) for each k, (K, *batch) to (K, *batch).

    ``guess`` holds log what_k, a guess for the weight that is left out; without one what_k is zero. Raise
    ``EstbenchError`` for K < 2.
    """
    check_others(log_weights)
    count = len(log_weights)
    own = torch.eye(count, dtype=torch.bool, device=log_weights.device).view(
        count, count, *[1] * (log_weights.dim() - 1)
    )
    # Row k holds all log weights, the k-th of them replaced.
    return log_weights.where(~own, -math.inf if guess is None else guess).logsumexp(1)


def check_others(log_weights: Tensor) -> None:
    """Raise ``EstbenchError`` unless there are at least two importance samples, (K, *batch)."""
    if len(log_weights) < 2:
        raise EstbenchError(
            "this estimator compares an importance sample with the others and needs at least 2;"
            f" the objective has importance_samples={len(log_weights)}"
        )


def log_share_of_others(log_weights: Tensor) -> Tensor:
    r"""Return log(1 - v_k), (K, *batch), detached; raise ``EstbenchError`` for K < 2.

    It is computed from v_k, because a difference of two sums of weights of hundreds of nats has no digits of it left;
    and from the others' sum where v_k is above one half, which only the largest can be.
    """
    check_others(log_weights)
    log_weights = log_weights.detach()
    v = log_weights.softmax(0)
    largest = torch.zeros_like(v, dtype=torch.bool).scatter(0, log_weights.argmax(0, keepdim=True), True)
    others = log_weights.masked_fill(largest, -math.inf).logsumexp(0) - log_weights.logsumexp(0)
    return torch.where(largest & (v > 0.5), others, torch.log1p(-v))


def excess(log_share: Tensor) -> Tensor:
    r"""Return h(v) = -log(1 - v) - v = v^2 / 2 + v^3 / 3 + ... from log(1 - v): what a sample adds to Lhat, less v."""
    return -log_share + torch.expm1(log_share)
