"""Local expectation gradients: a sum over the values of each latent, given a sample of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.estimators._noise import is_categorical
from estbench.estimators._surrogates import gradient_surrogate
from estbench.estimators.base import Estimator, register
from estbench.problems import Objective


@register("local-expectation")
class LocalExpectation(Estimator):
    r"""Local expectation gradients (Titsias and Lazaro-Gredilla, 2015, arXiv:1503.01494).

        d/d eta_i E_q[f] = E_{q(z_-i)}[ sum_{z_i} f(z_i, z_-i) dq(z_i)/d eta_i ]

    One sample z ~ q gives z_-i for every i at once. With the differences Delta_c = f(z with z_i = c) - f(z):

        bits:         theta_i (1 - theta_i) (f(z_i = 1) - f(z_i = 0))
        categorical:  p_c (Delta_c - sum_k p_k Delta_k)

    The sum removes all noise of a latent's own value; the noise of the others stays. For a single latent the gradient
    is exact. f is called for the sample and for every neighbour that differs in one latent: D + 1 times for bits,
    D (C - 1) + 1 in general. The decoder's gradient comes only from the sample.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("local-expectation")(objective).mean().backward()
    >>> problem.logits.grad  # exact for one bit
    tensor([-0.0250])
    """

    summary = "each latent is summed over, given a sample of the others"
    reference = "titsias2015"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = "D(C-1)+1"  # bits have C = 2

    def count_evaluations(self, objective: Objective) -> int:
        if is_categorical(objective.q):
            return objective.q.event_shape[:-1].numel() * (objective.q.event_shape[-1] - 1) + 1
        return objective.q.event_shape.numel() + 1

    def forward(self, objective: Objective) -> Tensor:
        frozen, logits = objective.frozen_q(), objective.params["logits"].detach()
        z = objective.q.sample((1,))
        f = objective.f(z, frozen)
        if is_categorical(objective.q):
            alternatives = torch.cat([z.roll(shift, -1) for shift in range(1, z.shape[-1])])  # (C - 1, *B, D, C)
            delta = _differences(objective, f, z, alternatives)
            values = (delta[..., None] * alternatives).sum(0)
            p = logits.softmax(-1)
            return gradient_surrogate(objective, f, p * (values - (p * values).sum(-1, keepdim=True)))
        delta = _differences(objective, f, z, 1 - z)
        theta = logits.sigmoid()
        return gradient_surrogate(objective, f, theta * (1 - theta) * (delta * (1 - 2 * z)).squeeze(0))


@torch.no_grad()
def _differences(objective: Objective, f: Tensor, z: Tensor, alternatives: Tensor) -> Tensor:
    """Return f with one latent replaced, less f itself: (A, *B, D), for alternatives of (A, *B, D, ...)."""
    batch = len(objective.batch_shape)
    latents = z.shape[1 + batch]
    ones = [1] * (z.dim() - batch - 2)
    chosen = torch.eye(latents, dtype=torch.bool, device=z.device).view(latents, *[1] * (batch + 1), latents, *ones)
    neighbours = torch.where(chosen, alternatives, z)  # (D, A, *B, D, ...)
    values = objective.f(neighbours.flatten(0, 1), objective.frozen_q()).view(latents, *alternatives.shape[: batch + 1])
    return values.movedim(0, -1) - f.detach()[..., None]
