"""Score-function gradients of the multi-sample bound; see ``multi_sample/_base.py`` for the notation.

With the score s_k = grad_phi log q(z_k), and weights that are constants in z_k's own score,

    grad_phi L_K = E[sum_k (Lhat - v_k - c_k) s_k]   for any c_k that does not depend on z_k.

-v_k is the gradient of -log q within Lhat; the decoder's gradient is that of Lhat itself. The estimators differ in c_k.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators.base import register
from estbench.estimators.multi_sample._base import (
    MultiSample,
    bound,
    excess,
    log_share_of_others,
    log_sum_of_others,
)
from estbench.estimators.score_function import leave_one_out_mean
from estbench.options import BaseOptions
from estbench.problems import Objective


def score_surrogate(objective: Objective, z: Tensor, log_weights: Tensor, signal: Tensor) -> Tensor:
    """Return Lhat + sum_k sg(signal_k) log q(z_k), (*batch): the model's own gradient and the score function's."""
    return bound(log_weights) + (signal.detach() * objective.q.log_prob(z)).sum(0)


@register("reinforce-iwae")
class ReinforceIWAE(MultiSample):
    r"""Score function on the bound, c_k = 0 (Mnih and Rezende, 2016, arXiv:1602.06725).

    Every sample is credited with the whole bound, also with the part of the others: the variance is that of Lhat, which
    may be hundreds of nats, times that of the scores. ``vimco`` makes it usable.

    Requires samples of q and their density, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("reinforce-iwae")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "score function on the multi-sample bound, no baseline"
    reference = "mnih2016"
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((objective.importance_samples,))
        log_weights = objective.log_weight(z, objective.frozen_q())
        return score_surrogate(objective, z, log_weights, bound(log_weights) - log_weights.softmax(0))


@register("vimco")
class VIMCO(MultiSample):
    r"""Variational inference for Monte Carlo objectives (Mnih and Rezende, 2016, arXiv:1602.06725).

        c_k = log (1/K) (sum_{l != k} w_l + what_k)

    The bound from the others, with a guess for the k-th weight: the ``geometric`` or the ``arithmetic`` mean of the
    K - 1 other weights. A mean over all K would depend on z_k and bias the estimate.

    This c_k is a baseline of Lhat and leaves -v_k without one. With h(v) = -log(1 - v) - v = v^2 / 2 + v^3 / 3 + ...
    and vhat_k = what_k / (sum_{l != k} w_l + what_k), of order 1/K, the signal is

        Lhat - v_k - c_k = h(v_k) - h(vhat_k) - vhat_k

    Its last term is noise of order 1/K in each of K samples, K^-1/2 in their sum, and the mean of the sum is of order
    1/K: the encoder's signal-to-noise ratio falls as K^-1/2. ``baseline=signal`` makes the same guess in the whole
    signal, c_k - vhat_k in place of c_k, which depends on z_k no more than before. What stays, h(v_k) - h(vhat_k), is
    of order 1/K^2; the noise of the sum is of order K^-3/2, and the ratio grows as K^1/2. With a guess of zero this is
    ``ovis`` with gamma = 0, so that is the same remedy; a mean as the guess makes the signal smaller, and zero where q
    is the posterior. (VIMCO-star of Daudel, 2026, arXiv:2602.01412, has the same rate; it is known here from a
    summary only, and this is not claimed to be it.)

    Requires samples of q and their density, only values of f, and K of at least 2; ``EstbenchError`` otherwise.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("vimco[baseline=signal]")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "score function on the multi-sample bound, each sample's baseline being the bound of the others"
    reference = "mnih2016"
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("vimco[mean=arithmetic]", "vimco[baseline=signal]", "vimco[baseline=signal,mean=arithmetic]")

    class Options(BaseOptions):
        """Options of ``vimco``."""

        mean: Literal["geometric", "arithmetic"] = Field(
            default="geometric", description="the mean of the other weights that stands for the one left out"
        )
        baseline: Literal["bound", "signal"] = Field(
            default="bound", description="what the guess is made in: the bound, or the whole signal (less noise)"
        )
        added = frozenset({"baseline"})

    def forward(self, objective: Objective) -> Tensor:
        count = objective.importance_samples
        z = objective.q.sample((count,))
        log_weights = objective.log_weight(z, objective.frozen_q())
        if self.options.baseline == "signal":
            return score_surrogate(objective, z, log_weights, self._signal(log_weights.detach()))
        if self.options.mean == "geometric":
            baseline = log_sum_of_others(log_weights, leave_one_out_mean(log_weights)) - math.log(count)
        else:  # the arithmetic mean of the K - 1 others, added to them, leaves their mean unchanged
            baseline = log_sum_of_others(log_weights) - math.log(count - 1)
        return score_surrogate(objective, z, log_weights, bound(log_weights) - log_weights.softmax(0) - baseline)

    def _signal(self, log_weights: Tensor) -> Tensor:
        """Return h(v_k) - h(vhat_k), (K, *batch)."""
        log_share = log_share_of_others(log_weights)
        if self.options.mean == "arithmetic":
            log_guessed = torch.full_like(log_weights, math.log1p(-1 / len(log_weights)))
        else:
            log_others = log_weights.logsumexp(0) + log_share
            log_guessed = torch.nn.functional.logsigmoid(log_others - leave_one_out_mean(log_weights))
        return excess(log_share) - excess(log_guessed)


@register("ovis")
class OVIS(MultiSample):
    r"""Optimal baseline for many samples (Lievin et al., 2020, arXiv:2008.01998), in its asymptotic form.

        c_k = log (1/K) sum_{l != k} w_l - gamma (v_k + log(1 - 1/K))

    With ``gamma=0`` it does not contain the sample's own weight and is unbiased. With ``gamma=1`` it depends on z_k by
    v_k, which cancels the -v_k of the gradient: at finite K the estimate is biased, by gamma E[sum_k v_k s_k].

    Against ``vimco[mean=arithmetic]`` only a constant is different, log(1 - 1/K), which is that one's leading noise.
    With gamma = 0 the signal is -log(1 - v_k) - v_k = v_k^2 / 2 + ..., of order 1/K^2: noise of order K^-3/2 in the sum
    over K samples, on a mean of order 1/K, and a signal-to-noise ratio that grows as K^1/2.

    Requires samples of q and their density, only values of f, and K of at least 2; ``EstbenchError`` otherwise.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("ovis")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "score function on the multi-sample bound, the asymptotically optimal baseline (biased for gamma > 0)"
    reference = "lievin2020"
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("ovis[gamma=1.0]",)

    class Options(BaseOptions):
        """Options of ``ovis``."""

        gamma: float = Field(
            default=0.0, ge=0, le=1, description="the share of the asymptotic term; unbiased only at 0"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.unbiased = self.options.gamma == 0

    def forward(self, objective: Objective) -> Tensor:
        count, gamma = objective.importance_samples, self.options.gamma
        z = objective.q.sample((count,))
        log_weights = objective.log_weight(z, objective.frozen_q())
        signal = excess(log_share_of_others(log_weights))
        if gamma:
            signal = signal + gamma * (log_weights.softmax(0) + math.log1p(-1 / count))
        return score_surrogate(objective, z, log_weights, signal)
