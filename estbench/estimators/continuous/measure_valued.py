"""Measure-valued derivatives: a derivative of q as the difference of two distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estbench.estimators.base import Estimator, register
from estbench.problems import Objective


@register("measure-valued")
class MeasureValued(Estimator):
    r"""Measure-valued gradient of normals, coupled (Mohamed et al., 2020, sec. 6, arXiv:1906.10652).

        dE[f]/dmu_i = E[f(mu_i + s_i W) - f(mu_i - s_i W)] / (sqrt(2 pi) s_i),   W ~ Weibull(sqrt 2, 2)
        dE[f]/ds_i  = E[f(mu_i + s_i M) - f(mu_i + s_i N)] / s_i,                M ~ double-sided Maxwell, N = U M

    One coordinate at a time; the others are drawn once from q and shared by both phases, without which the variance
    would not be small. A common W, and N made from M (U uniform, so that N is standard normal), couple the phases.
    f is evaluated four times for each latent: the cost grows with D, unlike that of other estimators.

    The D points with N are each distributed as q and carry the decoder's gradient; the other phases do not.

    Requires normal latents, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("measure-valued")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "difference of f between two phases for each latent's mean and scale; 4D evaluations"
    reference = "mohamed2020"
    supports = frozenset({"normal"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = "4D"

    def count_evaluations(self, objective: Objective) -> int:
        return 4 * objective.q.event_shape.numel()

    def forward(self, objective: Objective) -> Tensor:
        loc, scale = objective.q.mean, objective.q.stddev
        shared = torch.randn_like(loc)
        latents = loc.shape[-1]
        place = torch.eye(latents, dtype=torch.bool, device=loc.device).view(latents, *[1] * (loc.dim() - 1), latents)

        def one_by_one(noise: Tensor) -> Tensor:
            """Return D points, each with the noise of one coordinate replaced: (*batch, D) to (D, *batch, D)."""
            return (loc + scale * torch.where(place, noise, shared)).detach()

        weibull = (2 * torch.empty_like(loc).exponential_()).sqrt()
        maxwell = torch.randn(3, *loc.shape, dtype=loc.dtype, device=loc.device).norm(dim=0)
        maxwell = maxwell * torch.randn_like(loc).sign()
        normal = torch.rand_like(loc) * maxwell
        frozen = objective.frozen_q()
        with torch.no_grad():
            phases = torch.cat([one_by_one(noise) for noise in (weibull, -weibull, maxwell)])
            right, left, outer = objective.f(phases, frozen).movedim(0, -1).chunk(3, dim=-1)  # (*batch, D) each
        f = objective.f(one_by_one(normal), frozen)
        loc_gradient = (right - left) / (math.sqrt(2 * math.pi) * scale.detach())
        scale_gradient = (outer - f.detach().movedim(0, -1)) / scale.detach()
        return f.mean(0) + (loc_gradient * loc + scale_gradient * scale).sum(-1) - objective.kl()
