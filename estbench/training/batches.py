"""The data stream: the same minibatches for every estimator with the same seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from estbench.problems import Problem


class Batches:
    """Minibatches in an order that is shuffled each epoch, binarised again at each access.

    Order and binarisation come from one generator that nothing else draws from. The last, incomplete batch of an
    epoch is left out, so that every step has the same batch size.
    """

    def __init__(self, problem: Problem, batch_size: int, seed: int) -> None:
        self.problem = problem
        self.intensities = torch.from_numpy(problem.data.train).to(problem.device)
        self.batch_size = min(batch_size, len(self.intensities))
        self.generator = torch.Generator(problem.device).manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64, device=problem.device)
        self.position = 0

    def __next__(self) -> Tensor:
        """The next minibatch, (B, X)."""
        if self.position + self.batch_size > len(self.order):
            self.order = torch.randperm(len(self.intensities), generator=self.generator, device=self.problem.device)
            self.position = 0
        chosen = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return self.problem.observe(self.intensities.index_select(0, chosen), self.generator)

    def state_dict(self) -> dict[str, Any]:
        """All that the next minibatches depend on."""
        return {"order": self.order, "position": self.position, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        order, position = state["order"].to(self.problem.device), int(state["position"])
        if len(order) not in {0, len(self.intensities)} or not torch.equal(
            order.sort()[0], torch.arange(len(order)).to(order)
        ):
            raise ValueError("this is not an order of these examples")
        if not 0 <= position <= len(order):
            raise ValueError(f"position {position} is not in an epoch of {len(order)}")
        self.order, self.position = order, position
        self.generator.set_state(state["generator"].cpu())


def evaluation_batch(problem: Problem, split: str, count: int, seed: int) -> Tensor:
    """At most ``count`` images of a split, evenly spaced over it, binarised by one fixed draw: (N, X)."""
    intensities = torch.from_numpy(getattr(problem.data, split))
    # Spread over the file: its first rows need not be a fair sample (MNIST's first test rows are the easier ones).
    rows = torch.linspace(0, len(intensities) - 1, min(count, len(intensities))).round().long()
    generator = torch.Generator().manual_seed(seed)
    return problem.observe(intensities[rows], generator).to(problem.device)
