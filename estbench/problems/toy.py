"""Toys: the expected cost of a few random numbers, with the variational parameters themselves as weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from torch import Generator, Tensor

from estbench.datasets import Dataset
from estbench.latents import Latents
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem

# Rows of each split. A row is empty: it stands for one independent copy of the toy.
COPIES = 1000


class Toy(Problem):
    r"""Base of the toys: L = -E_q[cost(z)], maximised over the parameters of q; there are no data and no network.

    The B examples of a minibatch are independent copies of the toy, so a step averages B estimates of one gradient;
    ``batch_size=1`` is a single one. There is no model: the prior is q itself, held fixed, so that the KL and its
    gradient are zero and log w = f = -cost. The ``elbo`` curve is therefore L, whatever the split; the ``iwae`` one
    is log (1/K) sum_k exp(-cost(z_k)), which bounds nothing here.

    A toy defines ``cost`` and ``expected_cost``, its ``family``, and weights by the names in ``parameter_names``. See
    ``gaussian_toy`` and ``bernoulli_toy`` for examples.
    """

    family: Latents
    parameter_names: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        rows = np.zeros((COPIES, 1), np.float32)
        self.data = Dataset(self.name, rows, rows, rows, shape=(1, 1))

    def cost(self, z: Tensor) -> Tensor:
        """Return the cost of samples, (S, *R, B, D) to (S, *R, B)."""
        raise NotImplementedError

    def expected_cost(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return E_q[cost(z)] in closed form, from parameters of (*R, B, D) to (*R, B)."""
        raise NotImplementedError

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return intensities

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q, once for each copy, (B, D)."""
        return {name: getattr(self, name).expand(len(x), -1) for name in self.parameter_names}

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        fixed = {name: value.detach() for name, value in params.items()}
        return Objective(
            params,
            self.family.family,
            lambda z: -self.cost(z),
            lambda: self.family.family(fixed),
            kl=lambda: self.family.kl(params, fixed),
            expectation=lambda: -self.expected_cost(params),
        )
