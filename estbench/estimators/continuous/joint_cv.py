"""A control variate for both kinds of noise: of the draws from q, and of drawing the minibatch."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator, register
from estbench.estimators.continuous.delta import expansion
from estbench.options import BaseOptions
from estbench.problems import DataIndex, Objective


@register("joint-cv")
class JointControlVariate(Estimator):
    r"""Pathwise gradient with a joint control variate (Wang, Geffner and Domke, 2022, arXiv:2210.07290).

    Where q belongs to all the data, a gradient has two kinds of noise: the draw from q, and the choice n of the
    minibatch. With a second-order expansion h_n of f_n, whose mean under q is known,

        noise   grad [f_n(z) - h_n(z) + E_q h_n]
        data    grad [f_n(z) - E_q h_n + (1/N) sum_m E_q h_m]
        both    grad [f_n(z) - h_n(z)  + (1/N) sum_m E_q h_m],   z = mu + s eps

    The added terms have the mean zero over eps, over n, or over both. If h_n were f_n, ``both`` would be the exact
    gradient of the whole data, whatever n and eps are. The paper's first version calls it the dual control variate.

        h_n(z) = g_n'(z - z_n) + (z - z_n)' H_n (z - z_n) / 2,    E_q h_n = h_n(mu) + sum_i s_i^2 H_n,ii / 2

    with the gradient g_n and the Hessian H_n of f_n at z_n, which is the mean of q when n was last seen: a table with a
    row for each n, which a step reads before it writes the new rows. A row that is still empty stands for h_n = 0. The
    table, of N D (D + 1) numbers, and the expansion at the mean of q are the form that is derived here; only the
    abstract of the paper was at hand.

    The mean is the gradient of *all the data*, over eps and n together. Given one minibatch it is not that
    minibatch's gradient: what a probe calls the bias on a fixed minibatch is then the noise that was taken away.

    For an objective without ``data_index`` (q differs from example to example, as in a VAE) there is only the noise of
    the draw: ``both`` is then ``noise``, with the expansion at the present mean, and ``data`` is ``reparam``. The
    Hessian costs D backward passes through the gradient; they are not among the evaluations.

    Requires normal latents, and an f with two derivatives. With ``data_index`` it also requires a call of ``prepare``
    before use, without which it raises ``EstbenchError``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("joint-cv")(objective).mean().backward()
    >>> problem.loc.grad.round(decimals=4)  # no variance for a quadratic
    tensor([-1.])
    """

    summary = "pathwise gradient of what a second-order expansion of f leaves over; its table takes away data noise"
    reference = "wang2022"
    supports = frozenset({"normal"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("joint-cv[removes=noise]", "joint-cv[removes=data]")

    class Options(BaseOptions):
        """Options of ``joint-cv``."""

        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        removes: Literal["both", "noise", "data"] = Field(
            default="both", description="the noise of the draws from q, that of drawing the minibatch, or both"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.of_noise = self.options.removes != "data"
        self.of_data = self.options.removes != "noise"
        self.evaluations = self.options.num_samples + int(self.of_noise)

    def prepare(self, objective: Objective) -> None:
        if self.of_data and objective.data_index is not None:
            count, loc = objective.data_index.count, objective.params["loc"]
            size = loc.shape[-1]
            self.slopes: Tensor
            self.curvatures: Tensor
            self.register_buffer("slopes", loc.new_zeros(count, size))
            self.register_buffer("curvatures", loc.new_zeros(count, size, size))

    def count_evaluations(self, objective: Objective) -> int:
        return int(self.options.num_samples) + int(self._expands(objective))

    def _expands(self, objective: Objective) -> bool:
        """Whether a step expands f: for the table in training, or because there is none."""
        return self.training if self._row(objective) else self.of_noise

    def _row(self, objective: Objective) -> DataIndex | None:
        """Return the rows of the table that the examples have, if it is used."""
        if not self.of_data or objective.data_index is None:
            return None
        if not hasattr(self, "slopes"):
            raise EstbenchError("joint-cv has no table yet; call estimator.prepare(problem(x)) once, before use")
        return objective.data_index

    def forward(self, objective: Objective) -> Tensor:
        row, loc, scale = self._row(objective), objective.q.mean, objective.q.stddev
        fresh = self._expansion(objective) if self._expands(objective) else None
        z = objective.q.rsample((self.options.num_samples,))
        surrogate = objective.f(z).mean(0) - objective.kl()
        own = fresh
        if row is not None:
            own = self.slopes[row.index], self.curvatures[row.index]
        if own is not None:
            expected = expected_quadratic(own, loc, scale)
            if self.of_noise:
                surrogate = surrogate + expected - quadratic(own, z).mean(0)
            if row is not None:
                everything = self.slopes.mean(0), self.curvatures.mean(0)
                surrogate = surrogate + expected_quadratic(everything, loc, scale) - expected
        if row is not None and fresh is not None:  # in training; what was read above are copies
            first = (0,) * (len(objective.batch_shape) - 1)
            with torch.no_grad():
                self.slopes[row.index], self.curvatures[row.index] = (part[first] for part in fresh)
        return surrogate

    def _expansion(self, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return g - H mu, (*batch, D), and H, (*batch, D, D), of f at the mean of q."""
        loc, frozen = objective.q.mean.detach(), objective.frozen_q()
        _, gradient, hessian = expansion(lambda z: objective.f(z, frozen), loc)
        return gradient - (hessian @ loc[..., None]).squeeze(-1), hessian


Quadratic = tuple[Tensor, Tensor]  # slope and curvature at zero


def quadratic(h: Quadratic, z: Tensor) -> Tensor:
    """Return slope' z + z' curvature z / 2, without the constant: (S, *batch, D) to (S, *batch)."""
    slope, curvature = h
    return (z * (slope + 0.5 * (curvature @ z[..., None]).squeeze(-1))).sum(-1)


def expected_quadratic(h: Quadratic, loc: Tensor, scale: Tensor) -> Tensor:
    """Return its mean under q, (*batch)."""
    return quadratic(h, loc) + 0.5 * (h[1].diagonal(dim1=-2, dim2=-1) * scale.square()).sum(-1)
