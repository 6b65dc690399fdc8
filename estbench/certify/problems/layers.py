"""Small problems of a network whose weights are the latents, for estimators that act at its pre-activations.

Each example has the same few rows of inputs and its own weights of the model, which are the outputs of the rows. One
layer is small enough for quadrature over all its weights. Of two layers, the second is integrated in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from estbench.certify.problems.base import EXAMPLES, NODES, Expectation, Parameters, SmallProblem, centre
from estbench.latents import NormalLatents
from estbench.problems.linear_layers import LinearLayers, WeightDraw, with_ones

# The rows of data. Their inputs have several signs and sizes, so that a wrong law at any row shows in the mean.
ROWS = 3
Losses = Callable[[Tensor, Tensor], Tensor]  # from outputs (S, *R, B, M) and the model's weights (*R, B, M)


class WeightLatents(NormalLatents):
    """Normal latents that are the weights of linear layers."""

    name = "layers"


def _gaussian(values: Tensor, w: Tensor) -> Tensor:
    """-1/2 sum_n (y_n - g_n)^2."""
    return -0.5 * (w - values).square().sum(-1)


def _logistic(values: Tensor, w: Tensor) -> Tensor:
    """sum_n log sigmoid(y_n g_n), up to a constant."""
    return (torch.nn.functional.logsigmoid(w * values) + math.log(2)).sum(-1)


def _make_problem(
    name: str, sizes: list[int], losses: Losses, seed: int, examples: int = EXAMPLES, *, closed_form: bool = False
) -> SmallProblem:
    layers = LinearLayers(sizes)
    latents = WeightLatents(layers.size)
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

    def integrand(z: Tensor | WeightDraw, w: Tensor) -> Tensor:
        draw = layers.draw(z)
        values = draw.linear(0, _inputs(sizes[0], w))
        for layer in range(1, len(layers.shapes)):
            values = draw.linear(layer, values.tanh())
        return losses(values.squeeze(-1), w)

    params = {"loc": 0.8 * uniform(examples, layers.size), "log_scale": 0.4 * uniform(examples, layers.size) - 0.3}
    weights = 1.5 * uniform(examples, ROWS) + 0.3
    expectation = _two_layer_elbo(layers, latents) if closed_form else None
    problem = SmallProblem(
        f"layers, {name}, analytic KL",
        latents,
        params,
        weights,
        integrand,
        True,
        expectation=expectation,
        layers=layers,
    )
    return centre(problem)


def _inputs(size: int, like: Tensor) -> Tensor:
    """Return the rows of inputs, (M, n); a second input is the square of the first."""
    first = 1.2 * torch.arange(ROWS, dtype=like.dtype, device=like.device) - 1
    return torch.stack([first**power for power in range(1, size + 1)], dim=-1)


def _two_layer_elbo(layers: LinearLayers, latents: NormalLatents) -> Expectation:
    r"""Return a function that computes L of one tanh unit and one output, for ``_gaussian``.

    Given the unit h of a row, the output is normal, with the mean m . (h, 1) and the variance v = s^2 . (h^2, 1), so
    E[-(y - g)^2 / 2] = -((y - m . (h, 1))^2 + v) / 2. The two weights of h are integrated by quadrature.
    """

    def expectation(params: Parameters, prior: Parameters, w: Tensor) -> Tensor:
        abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
        noise = torch.cartesian_prod(*[torch.tensor(abscissae)] * 2).view(-1, *[1] * (w.dim() - 1), 2, 1)
        probability = torch.outer(*[torch.tensor(masses / masses.sum())] * 2).flatten()
        locs, scales = layers.split(params["loc"]), layers.split(params["log_scale"].exp())
        unit = (with_ones(_inputs(1, w)) @ (locs[0] + scales[0] * noise)).tanh()  # (N, *R, B, M, 1)
        mean = (with_ones(unit) @ locs[1]).squeeze(-1)
        variance = (with_ones(unit).square() @ scales[1].square()).squeeze(-1)
        values = -0.5 * ((w - mean).square() + variance).sum(-1)
        return torch.einsum("n,n...->...", probability, values) - latents.kl(params, prior)

    return expectation


LAYERED: tuple[SmallProblem, ...] = (
    _make_problem("one layer, gaussian", [1, 1], _gaussian, 1),
    _make_problem("one layer, logistic", [1, 1], _logistic, 2),
    _make_problem("two inputs, gaussian", [2, 1], _gaussian, 3, examples=3),
    _make_problem("two layers, gaussian", [1, 1, 1], _gaussian, 4, closed_form=True),
)
