"""Augment, REINFORCE, swap (and merge): ARM for categories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, from_one_hot
from estbench.estimators.base import Estimator, register
from estbench.problems import Objective

# Notation: pi ~ Dirichlet(1, ..., 1) for each latent, independently; z = argmin_c pi_c exp(-eta_c) is a sample of
# q. A swap c <-> j exchanges pi_c and pi_j in *all* latents at once. It leaves the law of pi as it is, so it turns
#
#   grad_{eta_dc} E[f(z)] = E[f(z) (1 - C pi_dc)]   into   E[f(z^{c <-> j}) (1 - C pi_dj)]
#
# for every latent d, and the evaluations of f do not grow with the number of latents. A softmax's gradient sums to
# zero over c, so the mean over c of the second form has mean zero, and is subtracted.


@register("ars")
class ARS(Estimator):
    r"""Augment-REINFORCE-swap (Yin, Yue and Zhou, 2019, arXiv:1905.01413), with a random reference category j.

        pi_d ~ Dirichlet(1_C),   z^{c<->j} = argmin_i pi_di exp(-eta_di) after pi_dc and pi_dj changed places, all d
        grad_{eta_dc} E_q[f] ~ (f(z^{c<->j}) - (1/C) sum_m f(z^{m<->j})) (1 - C pi_dj)

    C evaluations, however many latents there are. The gradient is that with respect to logits.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("ars")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "score function on Dirichlet noise, differenced over swaps with one reference category"
    reference = "yin2019arsm"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = "C"

    def count_evaluations(self, objective: Objective) -> int:
        return as_categorical_logits(objective).shape[-1]

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        size = logits.shape[-1]
        pi = _dirichlet(logits)
        reference = torch.randint(size, objective.batch_shape, device=logits.device)
        swaps = _swaps(size, logits.device)[reference].movedim(-2, 0)  # (C, *R, B, C)
        f = _values(objective, logits, pi, swaps)
        at_reference = pi.gather(-1, reference[..., None, None].expand(*pi.shape[:-1], 1))
        signal = (f - f.mean(0)).detach().movedim(0, -1)[..., None, :]  # (*R, B, 1, C)
        return f.mean(0) + (signal * (1 - size * at_reference) * logits).sum((-1, -2)) - objective.kl()


@register("arsm")
class ARSM(Estimator):
    r"""Augment-REINFORCE-swap-merge (Yin, Yue and Zhou, 2019, arXiv:1905.01413).

        pi_d ~ Dirichlet(1_C),   F_cj = f(z^{c<->j}),   z^{c<->j} as in ``ars``
        grad_{eta_dc} E_q[f] ~ (1/C) sum_j (F_cj - (1/C) sum_m F_mj) (1 - C pi_dj)

    ``ars`` averaged over all reference categories. F is symmetric with f(z) on its diagonal: C(C-1)/2 + 1 evaluations,
    however many latents there are. With two categories it is ARM.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("arsm")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "ars averaged over all reference categories"
    reference = "yin2019arsm"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = "C(C-1)/2+1"

    def count_evaluations(self, objective: Objective) -> int:
        size = as_categorical_logits(objective).shape[-1]
        return size * (size - 1) // 2 + 1

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        size = logits.shape[-1]
        pi = _dirichlet(logits)
        rows, columns = torch.triu_indices(size, size, 1, device=logits.device)
        table = _swaps(size, logits.device)
        swaps = torch.cat([table[0, :1], table[rows, columns]])  # the identity, then each pair once
        f = _values(objective, logits, pi, swaps.view(len(swaps), *[1] * len(objective.batch_shape), size))
        place = torch.zeros(size, size, dtype=torch.long, device=logits.device)
        place[rows, columns] = place[columns, rows] = torch.arange(1, len(swaps), device=logits.device)
        by_pair = f.detach()[place]  # (C, C, *R, B): F
        signal = torch.einsum("cj...,...dj->...dc", by_pair - by_pair.mean(0), 1 / size - pi)
        return f.mean(0) + (signal * logits).sum((-1, -2)) - objective.kl()


def _dirichlet(logits: Tensor) -> Tensor:
    """Draw pi, (*R, B, D, C), uniform on the simplex."""
    noise = torch.empty_like(logits).exponential_().clamp(min=torch.finfo(logits.dtype).tiny)
    return noise / noise.sum(-1, keepdim=True)


def _swaps(size: int, device: torch.device) -> Tensor:
    """Return permutations of the categories, (C, C, C): entry (j, c) exchanges j and c."""
    index = torch.arange(size, device=device)
    j, c = index[:, None, None], index[:, None]
    return torch.where(index == j, c, torch.where(index == c, j, index))


def _values(objective: Objective, logits: Tensor, pi: Tensor, swaps: Tensor) -> Tensor:
    """Return f at the samples after P permutations, (P, *R, B, C) to (P, *R, B), live in the model's weights."""
    order = swaps[..., None, :].expand(len(swaps), *pi.shape)
    indices = (pi.log().expand(order.shape).gather(-1, order) - logits.detach()).argmin(-1)
    z = from_one_hot(objective, F.one_hot(indices, logits.shape[-1]).to(logits))
    return objective.f(z, objective.frozen_q())
