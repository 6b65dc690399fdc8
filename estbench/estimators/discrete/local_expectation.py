"""Local expectation gradients: a sum over the values of each latent, given a sample of the others."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import is_categorical
from estbench.estimators._surrogates import gradient_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
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

    ``flipped=K`` draws K of the D latents for each example, without replacement, and multiplies their gradients by D/K;
    the others have none: K (C - 1) + 1 calls. K = 1 is bitflip-1 (Kunes et al., 2023, arXiv:2208.06124).

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
    variants = ("local-expectation[flipped=1]",)

    class Options(BaseOptions):
        """Options of ``local-expectation``."""

        added: ClassVar = frozenset({"flipped"})
        flipped: int = Field(default=0, ge=0, description="K, the latents that are drawn to be summed over; 0 for all")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        count = self.options.flipped
        self.evaluations = f"min({count}, D)(C-1)+1" if count else "D(C-1)+1"  # bits have C = 2

    def count_evaluations(self, objective: Objective) -> int:
        latents, alternatives = objective.q.event_shape[0], 1
        if is_categorical(objective.q):
            alternatives = objective.q.event_shape[-1] - 1
        return (min(self.options.flipped, latents) or latents) * alternatives + 1

    def forward(self, objective: Objective) -> Tensor:
        frozen, logits = objective.frozen_q(), objective.params["logits"].detach()
        z = objective.q.sample((1,))
        f = objective.f(z, frozen)
        chosen = self._chosen(objective, logits)
        if is_categorical(objective.q):
            alternatives = torch.cat([z.roll(shift, -1) for shift in range(1, z.shape[-1])])  # (C - 1, *B, D, C)
            delta = _differences(objective, f, z, alternatives, chosen)
            values = (delta[..., None] * alternatives).sum(0)
            p = logits.softmax(-1)
            return gradient_surrogate(objective, f, p * (values - (p * values).sum(-1, keepdim=True)))
        delta = _differences(objective, f, z, 1 - z, chosen)
        theta = logits.sigmoid()
        return gradient_surrogate(objective, f, theta * (1 - theta) * (delta * (1 - 2 * z)).squeeze(0))

    def _chosen(self, objective: Objective, like: Tensor) -> Tensor:
        """Return which latent each neighbour differs in, (K, *B, D), or (D, *1, D) for all of them."""
        batch, latents = objective.batch_shape, objective.q.event_shape[0]
        count = self.options.flipped
        if not 0 < count < latents:
            identity = torch.eye(latents, dtype=torch.bool, device=like.device)
            return identity.view(latents, *[1] * len(batch), latents)
        drawn = torch.rand(*batch, latents, dtype=like.dtype, device=like.device).topk(count, -1).indices
        return F.one_hot(drawn, latents).bool().movedim(-2, 0)


@torch.no_grad()
def _differences(objective: Objective, f: Tensor, z: Tensor, alternatives: Tensor, chosen: Tensor) -> Tensor:
    """Return f with one latent replaced, less f itself: (A, *B, D), for alternatives of (A, *B, D, ...).

    Where only K of the D latents are replaced, it is D / K times as much for these, and zero for the others.
    """
    count, latents = len(chosen), chosen.shape[-1]
    ones = [1] * (z.dim() - 2 - len(objective.batch_shape))
    mask = chosen.view(count, 1, *chosen.shape[1:], *ones)
    neighbours = torch.where(mask, alternatives, z)  # (K, A, *B, D, ...)
    values = objective.f(neighbours.flatten(0, 1), objective.frozen_q()).view(
        count, *neighbours.shape[1 : z.dim() - len(ones)]
    )
    if count == latents:
        return values.movedim(0, -1) - f.detach()[..., None]
    differences = (values - f.detach())[..., None]  # (K, A, *B, 1)
    return latents / count * (chosen[:, None] * differences).sum(0)
