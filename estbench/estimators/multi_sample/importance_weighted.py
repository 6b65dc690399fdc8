"""Pathwise gradients of the multi-sample bound; see ``multi_sample/_base.py`` for the notation."""

from __future__ import annotations

from torch import Tensor

from estbench.estimators.base import register
from estbench.estimators.multi_sample._base import MultiSample, bound
from estbench.problems import Objective


@register("iwae")
class IWAE(MultiSample):
    r"""Reparameterization gradient of the bound (Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519).

        z_k = z(phi, eps_k):   grad L_K = E[sum_k v_k d log w_k / d phi]

    d log w_k is total: through z_k, and directly through -log q. As K grows, the mean of the encoder's gradient shrinks
    faster than its noise: the signal-to-noise ratio falls as K^-1/2 (Rainforth et al., 2018, arXiv:1802.04537).

    Requires a differentiable sample of q (``rsample``), and the derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("iwae")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "pathwise gradient of the multi-sample bound"
    reference = "burda2016"
    supports = frozenset({"reparameterized"})
    unbiased = True
    needs_differentiable_f = True

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.rsample((objective.importance_samples,))
        return bound(objective.log_weight(z))


@register("stl-iwae")
class STLIWAE(MultiSample):
    r"""``iwae`` without the score of q (Roeder, Wu and Duvenaud, 2017, arXiv:1703.09194). Biased for K > 1.

        estimate = sum_k v_k (d log w_k / d z_k) (d z_k / d phi)

    The score that is left out has mean zero; multiplied by v_k, which depends on z_k, it has not. ``dreg`` is the same
    idea without the bias.

    Requires a differentiable sample of q (``rsample``), and the derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("stl-iwae")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "pathwise gradient of the multi-sample bound without the score of q (biased)"
    reference = "roeder2017"
    supports = frozenset({"reparameterized"})
    unbiased = False
    needs_differentiable_f = True

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.rsample((objective.importance_samples,))
        return bound(objective.log_weight(z, objective.frozen_q()))


@register("dreg")
class DReG(MultiSample):
    r"""Doubly reparameterized gradient (Tucker, Lawson, Gu and Maddison, 2019, arXiv:1810.04152).

        grad_phi L_K = E[sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)]

    The score E[v_k grad log q(z_k)] is reparameterized a second time, which turns v_k into v_k^2 and leaves no score
    behind. Only the path through z is squared: the decoder's weight stays v_k, so the second v_k is multiplied in
    where the gradient passes z on its way back to q.

    Requires a differentiable sample of q (``rsample``), and the derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("dreg")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "pathwise gradient of the multi-sample bound, its score part reparameterized too"
    reference = "tucker2019"
    supports = frozenset({"reparameterized"})
    unbiased = True
    needs_differentiable_f = True

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.rsample((objective.importance_samples,))
        log_weights = objective.log_weight(z, objective.frozen_q())
        if z.requires_grad:
            v = log_weights.detach().softmax(0)
            v = v.view(*v.shape, *[1] * len(objective.q.event_shape))
            z.register_hook(lambda gradient: v * gradient)  # type: ignore[no-untyped-call]
        return bound(log_weights)
