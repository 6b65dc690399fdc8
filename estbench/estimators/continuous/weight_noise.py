r"""Pathwise gradients of the weights of a network, with noise of its own for each row of a minibatch.

f is a sum over rows, f(w) = c sum_n f_n(w). With one draw of w for all rows, the estimates of the rows depend on each
other: the variance of the sum is c^2 (sum_n Var_n + sum_{n != m} Cov_nm), and the covariances do not go away in large
minibatches. But only the mean of each f_n matters, so any draw will do whose marginal at each row is q.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator, register
from estbench.estimators.requirements import LAYERS
from estbench.problems import Objective
from estbench.problems.linear_layers import LinearLayers, WeightDraw, with_ones


class WeightNoise(Estimator):
    """The base of estimators that draw the weights of linear layers by what these do to the rows."""

    supports = frozenset({LAYERS})
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1

    @abstractmethod
    def draw(self, loc: Tensor, scale: Tensor, layers: LinearLayers) -> WeightDraw:
        """Return a draw from N(loc, scale^2), (1, *B, D) each."""

    def forward(self, objective: Objective) -> Tensor:
        layers = objective.linear_layers
        if layers is None or objective.samples_kl:
            raise EstbenchError(
                f"estimator '{self.name}' acts at linear layers of an objective with a KL in closed form; give"
                " the objective linear_layers and kl, as bayesian_mlp does, or choose reparam"
            )
        draw = self.draw(objective.params["loc"][None], objective.params["log_scale"].exp()[None], layers)
        value: Tensor = objective.f(draw).mean(0)  # type: ignore[arg-type]  # it stands in for z
        return value - objective.kl()


@register("local-reparam")
class LocalReparam(WeightNoise):
    r"""Local reparameterization (Kingma, Salimans and Welling, 2015, arXiv:1506.02557).

        w_ij ~ N(m_ij, s_ij^2),  a_j = sum_i h_i w_ij   =>   a_j ~ N(sum_i h_i m_ij, sum_i h_i^2 s_ij^2)
        a_j = sum_i h_i m_ij + sqrt(sum_i h_i^2 s_ij^2) eps_j,   eps ~ N(0, I) for each row and unit

    Not the weights but the pre-activations are drawn, for each row, from their law given the inputs h of the layer. The
    weights of different units are independent, and each is used once for a row, so each row by itself sees one draw
    from q; and rows have independent noise.

    Requires normal weights of linear layers (``linear_layers`` of the objective), a KL in closed form, and the
    derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bayesian_mlp[hidden=[4]]")
    >>> x = torch.from_numpy(problem.data.train[:5])
    >>> estimators.create("local-reparam")(problem(x)).shape
    torch.Size([5])
    """

    summary = "pathwise gradient of a network's weights, with the noise at the pre-activations of each row"
    reference = "kingma2015"

    def draw(self, loc: Tensor, scale: Tensor, layers: LinearLayers) -> WeightDraw:
        return LocalDraw(loc, scale, layers)


@register("flipout")
class Flipout(WeightNoise):
    r"""Flipout (Wen, Vicol, Ba, Tran and Grosse, 2018, arXiv:1803.04386).

        W = m + s * eps,  eps ~ N(0, I) once for all rows;   W_n = m + s * eps * (u_n v_n^T),   u_n, v_n random signs
        h W_n = h m + ((h * u_n) (s * eps)) * v_n

    A normal times a sign is the same normal, so each row sees a draw from q. Two rows share eps, but their products of
    signs are independent and have mean zero: their perturbations are uncorrelated, and not independent.

    Requires normal weights of linear layers (``linear_layers`` of the objective), a KL in closed form, and the
    derivative of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bayesian_mlp[hidden=[4]]")
    >>> x = torch.from_numpy(problem.data.train[:5])
    >>> estimators.create("flipout")(problem(x)).shape
    torch.Size([5])
    """

    summary = "pathwise gradient of a network's weights, one perturbation with random signs for each row"
    reference = "wen2018"

    def draw(self, loc: Tensor, scale: Tensor, layers: LinearLayers) -> WeightDraw:
        return FlippedDraw(loc, scale * torch.randn_like(scale), layers)


class LocalDraw(WeightDraw):
    """Pre-activations from the law that they have given their inputs; noise of its own for each row and unit."""

    def __init__(self, loc: Tensor, scale: Tensor, layers: LinearLayers) -> None:
        self.loc, self.scale, self.layers, self.shape = loc, scale, layers, loc.shape
        self.locs, self.variances = layers.split(loc), layers.split(scale.square())

    def linear(self, layer: int, inputs: Tensor) -> Tensor:
        rows = with_ones(inputs)
        mean = rows @ self.locs[layer]
        variance = rows.square() @ self.variances[layer]
        return mean + variance.sqrt() * torch.randn_like(mean)

    def detach(self) -> LocalDraw:
        return LocalDraw(self.loc.detach(), self.scale.detach(), self.layers)


class FlippedDraw(WeightDraw):
    """A perturbation of the weights, (1, *B, D), that all rows share up to random signs of inputs and outputs."""

    def __init__(self, loc: Tensor, perturbation: Tensor, layers: LinearLayers) -> None:
        self.loc, self.perturbation, self.layers, self.shape = loc, perturbation, layers, loc.shape
        self.locs, self.perturbations = layers.split(loc), layers.split(perturbation)

    def linear(self, layer: int, inputs: Tensor) -> Tensor:
        rows = with_ones(inputs)
        mean = rows @ self.locs[layer]
        seen = rows.expand(*mean.shape[:-1], rows.shape[-1])  # each replicate has signs of its own
        return mean + _signs(mean) * ((_signs(seen) * seen) @ self.perturbations[layer])

    def detach(self) -> FlippedDraw:
        return FlippedDraw(self.loc.detach(), self.perturbation.detach(), self.layers)


def _signs(like: Tensor) -> Tensor:
    """Return random signs of the shape of a tensor."""
    return 2 * torch.bernoulli(torch.full_like(like, 0.5)) - 1
