"""Reweighted wake-sleep, two objectives for encoder and model; see ``multi_sample/_base.py`` for the notation."""

from __future__ import annotations

from torch import Tensor

from estbench.estimators.base import register
from estbench.estimators.multi_sample._base import MultiSample
from estbench.estimators.multi_sample.vimco import score_surrogate
from estbench.problems import Objective


@register("rws")
class ReweightedWakeSleep(MultiSample):
    r"""Wake-phase update of q (Bornschein and Bengio, 2015, arXiv:1406.2751). Biased for the bound.

        encoder:  sum_k v_k grad_phi log q(z_k)          decoder:  sum_k v_k grad_theta log p(x, z_k)

    The decoder ascends L_K. The encoder *descends* KL(p(z|x) || q), by self-normalised importance sampling: this is not
    a gradient of L_K at any K, and one of that KL only as K grows. Its signals v_k lie between 0 and 1, so it needs no
    baseline. If q can be the posterior, that is the optimum of both.

    Requires samples of q and their density, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("rws")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "reweighted wake-sleep, wake-phase update of q (biased: it descends KL(p || q))"
    reference = "bornschein2015"
    supports = frozenset({"any"})
    unbiased = False
    needs_differentiable_f = False

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((objective.importance_samples,))
        log_weights = objective.log_weight(z, objective.frozen_q())
        return score_surrogate(objective, z, log_weights, log_weights.softmax(0))
