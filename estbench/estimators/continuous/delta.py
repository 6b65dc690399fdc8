"""A control variate from the Taylor expansion of f at the mean of q."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field, field_validator
from torch import Tensor

from estbench.estimators.base import Estimator, register
from estbench.estimators.score_function import score_function_surrogate
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("delta")
class Delta(Estimator):
    r"""Score function with the delta-method control variate (Paisley, Blei and Jordan, 2012, arXiv:1206.6430).

        h(z) = f(mu) + g'(z - mu) + (z - mu)' H (z - mu) / 2,      g and H: gradient and Hessian of f at mu
        grad E[f] = E[(f(z) - a h(z)) grad log q(z)] + a grad E[h],   dE[h]/dmu = g,   dE[h]/ds_i = s_i H_ii

    Unbiased for any a that does not depend on z, and without variance for a quadratic f at a = 1. The default is a = 1.
    With ``coefficient_draws`` the best scalar, cov(f s, h s) / var(h s) with the score s, is estimated for each example
    from as many separate draws.

    The Hessian costs D backward passes through the gradient at mu; they are not among the evaluations.

    Requires normal latents, and an f with two derivatives.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("delta")(objective).mean().backward()
    >>> problem.loc.grad.round(decimals=4)  # no variance for a quadratic
    tensor([-1.])
    """

    summary = "score function of what a second-order expansion of f leaves over"
    reference = "paisley2012"
    supports = frozenset({"normal"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("delta[coefficient_draws=25]",)

    class Options(BaseOptions):
        """Options of ``delta``."""

        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        coefficient_draws: int = Field(
            default=0, ge=0, description="the draws that a is estimated from, 5 or more; 0 for a = 1"
        )

        @field_validator("coefficient_draws")
        @classmethod
        def _enough(cls, value: int) -> int:
            if 0 < value < 5:
                raise ValueError(f"a ratio of moments from {value} draws has no finite variance; take 5 or more, or 0")
            return value

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples + 1 + self.options.coefficient_draws

    def forward(self, objective: Objective) -> Tensor:
        frozen = objective.frozen_q()
        loc, scale = objective.q.mean, objective.q.stddev
        value, gradient, hessian = expansion(lambda z: objective.f(z, frozen), loc)

        def h(z: Tensor) -> Tensor:
            step = z - loc.detach()
            return value + (step * (gradient + 0.5 * (hessian @ step[..., None]).squeeze(-1))).sum(-1)

        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, frozen)
        a = value.new_ones(())
        if draws := self.options.coefficient_draws:
            others = objective.q.sample((draws,))
            noise = (others - loc.detach()) / scale.detach()
            with torch.no_grad():
                a = coefficient(objective.f(others, frozen), h(others), noise, scale)
        curvature = hessian.diagonal(dim1=-2, dim2=-1)
        expected = (gradient * loc + curvature * scale.detach() * scale).sum(-1)
        return score_function_surrogate(objective, z, f, f - a * h(z)) + a * expected


def expansion(f: Callable[[Tensor], Tensor], loc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return f, its gradient and its Hessian at loc of (*batch, D): (*batch), (*batch, D), (*batch, D, D), detached."""
    point = loc.detach().requires_grad_()
    value = f(point[None])[0]
    (gradient,) = torch.autograd.grad(value.sum(), point, create_graph=True, materialize_grads=True)
    rows = [
        torch.autograd.grad(part.sum(), point, retain_graph=True, materialize_grads=True)[0]
        for part in gradient.unbind(-1)
        if part.requires_grad  # not if f is linear
    ]
    hessian = torch.stack(rows, -2) if rows else gradient.new_zeros(*gradient.shape, gradient.shape[-1])
    return value.detach(), gradient.detach(), hessian.detach()


def coefficient(f: Tensor, h: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
    """Return the scalar a of least variance, summed over mu and log s: from (S, *batch) to (*batch)."""
    score = torch.cat([noise / scale, noise.square() - 1], -1)
    first, second = (values[..., None] * score for values in (f, h))
    first, second = first - first.mean(0), second - second.mean(0)
    tiny = torch.finfo(h.dtype).tiny  # if h is zero, any coefficient will do
    covariance: Tensor = (first * second).sum((0, -1))
    return covariance / second.square().sum((0, -1)).clamp(min=tiny)
