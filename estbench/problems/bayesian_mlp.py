"""A small Bayesian neural network: regression with a normal q of every weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.problems.linear_layers import LinearLayers, WeightDraw
from estbench.problems.logistic_regression import minibatch_windows
from estbench.problems.networks import ACTIVATIONS, Activation, Size
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register

# The curve that the data are about: sin(4 x) on [-1, 1], with this standard deviation of the noise.
FREQUENCY, NOISE = 4.0, 0.2
# The first standard deviation of q: small, so that the network is not drowned by its own noise.
FIRST_LOG_SCALE = -3.0


@register("bayesian_mlp")
class BayesianMLP(Problem):
    r"""Bayesian regression by a multilayer perceptron (Graves, 2011; Blundell et al., 2015, arXiv:1505.05424).

        w ~ N(0, I),   y_n | x_n, w ~ N(g(x_n; w), 0.2^2),   q(w) = N(loc, diag exp(2 log_scale))
        L = sum_n E_q[log p(y_n|x_n, w)] - KL(q || p)

    g has one input, the layers ``hidden`` and one output; all its weights and biases are latents. The N data are made
    by a fixed seed: y = sin(4 x) and noise of the standard deviation 0.2, x uniform on [-1, 1].

    As in ``logistic_regression``, an *example* is a minibatch of M rows out of N with a copy of q's parameters:

        L_b = (N / M) sum_{n in b} E_q[log p(y_n|x_n, w)] - KL(q || p),   E_b[L_b] = L

    Its rows share one draw of w under most estimators. f is a sum over rows, so each row may see a draw of its own:
    ``local-reparam`` and ``flipout`` act at the pre-activations, which the objective offers as ``linear_layers``.
    Validation and test hold one example, all rows, so their ``elbo`` is L itself, in nats per data set.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bayesian_mlp[hidden=[8],minibatch=16]")
    >>> x = torch.from_numpy(problem.data.train[:3])  # 3 examples, each the indices of 16 rows
    >>> objective = problem(x)
    >>> objective.q.event_shape  # 2 times 8 weights and 9
    torch.Size([25])
    >>> estimators.create("local-reparam")(objective).shape
    torch.Size([3])
    """

    summary = "Bayesian multilayer perceptron on a sine curve: normal weights, seen in minibatches"
    # q is normal; this word lets estimators in that need linear layers, and q itself is checked for all others.
    latents = "weights"

    class Options(BaseOptions):
        """Options of ``bayesian_mlp``."""

        hidden: tuple[Size, ...] = Field(default=(20,), min_length=1, description="units of the hidden layers")
        activation: Activation = Field(default="tanh", description="the activation of the hidden layers")
        rows: int = Field(default=128, ge=2, le=10**6, description="N, the rows of the data")
        minibatch: int = Field(
            default=32, ge=1, description="M, the rows of a minibatch; all of them if there are fewer"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or BayesianMLP.Options()
        self.data = minibatch_windows("sine", self.options.rows, self.options.minibatch)
        inputs, outputs = _make_curve(self.options.rows)
        self.inputs: Tensor
        self.outputs: Tensor
        self.register_buffer("inputs", inputs)
        self.register_buffer("outputs", outputs)
        self.layers = LinearLayers([1, *self.options.hidden, 1])
        self.activation = ACTIVATIONS[self.options.activation]()
        self.family = NormalLatents(self.layers.size)
        # Each layer starts at the spread that keeps the size of its outputs; biases too, so that units differ.
        starts = [torch.randn(rows, columns) / math.sqrt(rows) for rows, columns in self.layers.shapes]
        self.loc = nn.Parameter(torch.cat([start.flatten() for start in starts]))
        self.log_scale = nn.Parameter(torch.full((self.layers.size,), FIRST_LOG_SCALE))

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"sine-{options.rows}-v1-{cls.name}-{options.hidden}-{options.activation}"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return intensities

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q, once for each minibatch, (B, D)."""
        return {"loc": self.loc.expand(len(x), -1), "log_scale": self.log_scale.expand(len(x), -1)}

    def predict(self, z: Tensor | WeightDraw, inputs: Tensor) -> Tensor:
        """Return g at rows of inputs, (B, M, 1), for draws of (S, *R, B, D): (S, *R, B, M)."""
        draw, values = self.layers.draw(z), inputs
        for layer in range(len(self.layers.shapes) - 1):
            values = self.activation(draw.linear(layer, values))
        return draw.linear(len(self.layers.shapes) - 1, values).squeeze(-1)

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L_b for minibatches of rows x, (B, M), at variational parameters of (*R, B, D)."""
        rows = x.long()
        inputs, outputs = self.inputs[rows].unsqueeze(-1), self.outputs[rows]
        factor = len(self.outputs) / x.shape[1]
        standard = {name: torch.zeros_like(value) for name, value in params.items()}

        def log_likelihood(z: Tensor | WeightDraw) -> Tensor:
            distance = (outputs - self.predict(z, inputs)) / NOISE
            return factor * (-0.5 * distance.square() - math.log(NOISE) - 0.5 * math.log(2 * math.pi)).sum(-1)

        objective = Objective(
            params,
            self.family.family,
            log_likelihood,
            lambda: self.family.family(standard),
            kl=lambda: self.family.kl(params, standard),
            kl_weight=self.kl_weight,
        )
        objective.linear_layers = self.layers
        return objective


def _make_curve(rows: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and the outputs of the data, (N,) each; the same for every run."""
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, rows)
    y = np.sin(FREQUENCY * x) + NOISE * rng.standard_normal(rows)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))
