"""Pathwise gradients of the multi-sample bound; see ``multi_sample/_base.py`` for the notation."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from estbench.estimators._surrogates import gradient_carrier
from estbench.estimators.base import register
from estbench.estimators.multi_sample._base import MultiSample, bound
from estbench.latents import at_own_noise
from estbench.options import BaseOptions
from estbench.problems import Objective


class BoundOptions(BaseOptions):
    """Options of pathwise estimators of the bound."""

    alpha: float = Field(
        default=0.0, ge=0, lt=1, description="of the VR-IWAE bound that is followed; 0 for L_K, biased for it otherwise"
    )
    added = frozenset({"alpha"})


@register("iwae")
class IWAE(MultiSample):
    r"""Reparameterization gradient of the bound (Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519).

        z_k = z(phi, eps_k):   grad L_K = E[sum_k v_k d log w_k / d phi]

    d log w_k is total: through z_k, and directly through -log q. As K grows, the mean of the encoder's gradient shrinks
    faster than its noise: the signal-to-noise ratio falls as K^-1/2 (Rainforth et al., 2018, arXiv:1802.04537).

    With ``alpha`` it is the gradient of the VR-IWAE bound (Daudel, Benton, Shi and Doucet, 2023, arXiv:2210.06226),
    which lies between L_K (alpha = 0) and the ELBO (its limit at alpha = 1); encoder and decoder follow it:

        L_K^alpha = E log[(1/K) sum_k w_k^(1 - alpha)] / (1 - alpha),   v_k = w_k^(1 - alpha) / sum_l w_l^(1 - alpha)

    It is declared biased then, because the bound of the problem is L_K; of L_K^alpha the gradient is exact in the mean.

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

    summary = "pathwise gradient of the multi-sample bound, or of the VR-IWAE bound"
    reference = "burda2016"
    supports = frozenset({"reparameterized"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("iwae[alpha=0.5]",)

    class Options(BoundOptions):
        """Options of ``iwae``."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.unbiased = self.options.alpha == 0
        if self.options.alpha:
            self.reference = "daudel2023"  # type: ignore[misc]

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.rsample((objective.importance_samples,))
        return bound(objective.log_weight(z), self.options.alpha)


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

    With ``alpha`` the bound is that of VR-IWAE, see ``iwae``, and declared biased in the same way. There
    d v_k / d z_k = (1 - alpha) v_k (1 - v_k) d log w_k / d z_k, so the score takes away (1 - alpha) (v_k - v_k^2) and
    leaves u_k = alpha v_k + (1 - alpha) v_k^2 in place of v_k^2. At alpha = 1 that would be ``stl``.

    ``prior=reparameterized`` does the same with the score of a learned prior, E[v_k d log p(z_k) / d theta]: the
    generalised estimator (GDReG: Bauer and Mnih, 2021, arXiv:2101.11046). As an expectation under p it is
    E_p[g d log p / d theta] with g = v_k q / p, hence E_p[(dg / dz) (dz / dtheta)] along p's own path, and back under q

        d L_K / d theta = E[sum_k (v_k d log p(x|z_k) / d z_k - u_k d log w_k / d z_k) (d z_k / d theta)]

    where z_k = T(eps_k; theta) at the noise with which p would have drawn z_k. With two layers z is both of them, and
    the path is that of p(z2) p(z1|z2). There is no further evaluation of f, and one more pass backward through it. The
    prior must be normal, or layers of normals; ``EstbenchError`` otherwise.

    Requires a differentiable sample of q (``rsample``), and the derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("linear_gaussian[dimensions=2,importance_samples=4]")(torch.zeros(5, 2))
    >>> estimator = estimators.create("dreg[prior=reparameterized]")
    >>> estimator(objective).shape, estimator.count_evaluations(objective)
    (torch.Size([5]), 4)
    """

    summary = "pathwise gradient of the multi-sample bound, its score part reparameterized too"
    reference = "tucker2019"
    supports = frozenset({"reparameterized"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("dreg[alpha=0.5]", "dreg[prior=reparameterized]", "dreg[alpha=0.5,prior=reparameterized]")

    class Options(BoundOptions):
        """Options of ``dreg``."""

        prior: Literal["score", "reparameterized"] = Field(
            default="score", description="the gradient of a learned prior: its score, or along its own path (GDReG)"
        )
        added = frozenset({"alpha", "prior"})

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.unbiased = self.options.alpha == 0
        if self.options.prior == "reparameterized":
            self.reference = "bauer2021"  # type: ignore[misc]
        elif self.options.alpha:
            self.reference = "daudel2023"  # type: ignore[misc]

    def forward(self, objective: Objective) -> Tensor:
        alpha, q = self.options.alpha, objective.frozen_q()
        z = objective.q.rsample((objective.importance_samples,))
        log_weights = objective.log_weight(z, q)
        surrogate = bound(log_weights, alpha)
        if self.options.prior == "reparameterized" and z.requires_grad:
            surrogate = surrogate + along_prior(objective, q, z, log_weights, alpha)
        if z.requires_grad:
            v = as_factor(objective, shares(log_weights, alpha))
            z.register_hook(lambda gradient: (alpha + (1 - alpha) * v) * gradient)  # type: ignore[no-untyped-call]
        return surrogate


def along_prior(objective: Objective, q: Distribution, z: Tensor, log_weights: Tensor, alpha: float) -> Tensor:
    """Return a zero, (*batch), whose gradient takes the prior's score out of the bound's and puts its path in.

    ``q`` is frozen, and log_weights, (K, *batch), are those at its samples z, live in z.
    """
    p = objective.prior
    (of_weight,) = torch.autograd.grad(log_weights.sum(), z, retain_graph=True)
    point = z.detach().requires_grad_()
    log_p = p.log_prob(point)
    (of_ratio,) = torch.autograd.grad((log_p - q.log_prob(point)).sum(), point, retain_graph=True)
    v = shares(log_weights, alpha)
    score = (v * (log_p - log_p.detach())).sum(0)
    factor = as_factor(objective, v)
    coefficient = factor * (of_weight - of_ratio) - factor * (alpha + (1 - alpha) * factor) * of_weight
    path = at_own_noise(p, z.detach())
    return gradient_carrier(path, coefficient, len(objective.q.event_shape)).sum(0) - score


def shares(log_weights: Tensor, alpha: float) -> Tensor:
    """Return v_k, the shares of w_k^(1 - alpha), (K, *batch), detached."""
    return ((1 - alpha) * log_weights.detach()).softmax(0)


def as_factor(objective: Objective, values: Tensor) -> Tensor:
    """Return one number for each sample, (K, *batch), in a shape that multiplies samples of q."""
    return values.view(*values.shape, *[1] * len(objective.q.event_shape))
