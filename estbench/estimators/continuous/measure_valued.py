"""Measure-valued derivatives: a derivative of q as the difference of two distributions."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._surrogates import gradient_carrier
from estbench.estimators.base import Estimator, register
from estbench.estimators.continuous._weak_derivatives import decompose, points_each
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("measure-valued")
class MeasureValued(Estimator):
    r"""Measure-valued gradient of normal, gamma, Weibull and Poisson latents (Mohamed et al., 2020, arXiv:1906.10652).

        dE[f]/dphi_i = c_i (E f(z with z_i ~ q_i^+) - E f(z with z_i ~ q_i^-))

    One latent at a time; the others are drawn once from q and shared by both phases, without which the variance would
    not be small. f is evaluated for each latent: the cost grows with D, unlike that of other estimators.

                              c                      q+                                       q-
        normal    mu          1 / (sqrt(2 pi) s)     mu + s W, W ~ Weibull(sqrt 2, 2)         mu - s W
                  log s       1                      mu + s M, M double-sided Maxwell         q
        Poisson   log rate    rate                   z + 1, z ~ q                             q
        gamma     log b       -a                     Gamma(a + 1, b)                          q
                  log a       a^2 psi'(a)            B Gamma(a + 1, b)                        B Gamma(a, b)
        Weibull   log s       k                      s Y^(1/k), Y ~ Gamma(2, 1)               q
                  log k       -1                     s Y^(1/k), Y ~ (Y - 1) log Y exp(-Y)     q

    For gamma latents, a is the concentration and b the rate; B ~ Beta(a + K, 1) with P(K = k) = (a + k)^-2 / psi'(a).
    Those of the concentrations are derived here, not taken from the paper.

    ``coupling`` makes the draws of both phases from common noise: W, N = U M with U uniform, z + 1 from z. It takes
    away the noise that both have. It does not always help: with respect to mu, f(mu + s W) and f(mu - s W) of a
    monotone f go in opposite directions, and independent phases have a smaller variance.

    f is evaluated 4D times for normal latents, D + 1 times for Poisson, 3D + 1 for gamma and 2D + 1 for Weibull. For
    normal latents the D points with N are each distributed as q and carry the decoder's gradient, for others the shared
    draw; the other phases do not.

    Requires normal, gamma, Weibull or Poisson latents, and only values of f.

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

    summary = "difference of f between two phases for each latent and parameter; D + 1 to 4D evaluations"
    reference = "mohamed2020"
    supports = frozenset({"normal", "gamma", "weibull", "poisson"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("measure-valued[coupling=false]", "measure-valued[num_samples=2]")

    class Options(BaseOptions):
        """Options of ``measure-valued``."""

        coupling: bool = Field(default=True, description="whether both phases are made from common noise")
        num_samples: int = Field(default=1, ge=1, description="S, the draws of each phase")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        samples = self.options.num_samples
        self.evaluations = "D + 1 to 4D" if samples == 1 else f"{samples} (D + 1 to 4D)"

    def count_evaluations(self, objective: Objective) -> int:
        return int(self.options.num_samples) * points_each(objective)

    def forward(self, objective: Objective) -> Tensor:
        samples, latents = self.options.num_samples, objective.q.event_shape.numel()
        shared, phases = decompose(objective, samples, coupled=self.options.coupling)
        place = torch.eye(latents, dtype=torch.bool, device=shared.device)
        place = place.view(latents, *[1] * (shared.dim() - 1), latents)

        def one_by_one(z: Tensor) -> Tensor:
            """Return D points, each with one latent of the shared draw replaced: (S, *batch, D) to (D S, *batch, D)."""
            return torch.where(place, z, shared).flatten(0, 1)

        def by_latent(f: Tensor) -> Tensor:
            """Return f of such points as (S, *batch, D)."""
            return f.view(latents, samples, *f.shape[1:]).movedim(0, -1)

        frozen = objective.frozen_q()
        like_q = next((each.minus for each in phases if each.like_q), None)
        sides = [side for each in phases for side in (each.plus, None if each.like_q else each.minus)]
        known = [side for side in sides if side is not None]
        with torch.no_grad():
            values = objective.f(torch.cat([one_by_one(side) for side in known]), frozen).chunk(len(known))
        f = objective.f(shared if like_q is None else one_by_one(like_q), frozen)
        live = f.detach()[..., None] if like_q is None else by_latent(f.detach())
        found = iter(by_latent(value) for value in values)
        surrogate = f.mean(0) - objective.kl()
        for each in phases:
            plus = next(found)
            minus = live if each.minus is None or each.like_q else next(found)
            gradient = each.constant * (plus - minus).mean(0)
            surrogate = surrogate + gradient_carrier(objective.params[each.parameter], gradient, 1)
        return surrogate
