"""The data stream: the same minibatches for every estimator with the same seed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from estbench.experiment import stream_seed
from estbench.problems import Problem
from estbench.problems.pixels import as_bytes


class Batches:
    """Minibatches in an order that is shuffled each epoch, binarised again at each access.

    The order comes from a generator of the CPU, so it is the same on every device; pixels come from one of the device.
    Nothing else draws from them. The last, incomplete batch of an epoch is left out, so every step has the same batch
    size.
    """

    def __init__(self, problem: Problem, batch_size: int, seed: int) -> None:
        self.problem = problem
        self.examples = len(problem.data.train)
        self.batch_size = min(batch_size, self.examples)
        self.shuffles = torch.Generator().manual_seed(seed)
        self.pixels = torch.Generator(problem.device).manual_seed(stream_seed(seed, "pixels"))
        self.position = 0
        self._take(torch.empty(0, dtype=torch.int64))

    @cached_property
    def intensities(self) -> Tensor:
        """The training examples on the device, (N, X), as bytes where these are enough to draw pixels from.

        They are copied there when the first minibatch is asked for.
        """
        train = self.problem.data.train
        if self.problem.device.type == "cpu" and self.problem.takes_bytes and (levels := as_bytes(train)) is not None:
            return levels
        return torch.from_numpy(train).to(self.problem.device)

    def __next__(self) -> Tensor:
        """The next minibatch, (B, X)."""
        if self.position + self.batch_size > len(self.order):
            self._take(torch.randperm(self.examples, generator=self.shuffles))
            self.position = 0
        chosen = self._order_there[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return self.problem.observe(self.intensities.index_select(0, chosen), self.pixels)

    def _take(self, order: Tensor) -> None:
        self.order = order
        self._order_there = order.to(self.problem.device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """All that the next minibatches depend on."""
        return {
            "order": self.order,
            "position": self.position,
            "shuffles": self.shuffles.get_state(),
            "pixels": self.pixels.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken, on a device of the same type."""
        order, position = state["order"].cpu(), int(state["position"])
        if len(order) not in {0, self.examples} or not torch.equal(order.sort()[0], torch.arange(len(order)).to(order)):
            raise ValueError("this is not an order of these examples")
        if not 0 <= position <= len(order):
            raise ValueError(f"position {position} is not in an epoch of {len(order)}")
        self._take(order)
        self.position = position
        self.shuffles.set_state(state["shuffles"].cpu())
        self.pixels.set_state(state["pixels"].cpu())


def evaluation_batch(problem: Problem, split: str, count: int, seed: int) -> Tensor:
    """At most ``count`` images of a split, evenly spaced over it, binarised by one fixed draw: (N, X)."""
    intensities = torch.from_numpy(getattr(problem.data, split))
    # Spread over the file: its first rows need not be a fair sample (MNIST's first test rows are the easier ones).
    rows = torch.linspace(0, len(intensities) - 1, min(count, len(intensities))).round().long()
    generator = torch.Generator().manual_seed(seed)
    return problem.observe(intensities[rows], generator).to(problem.device)
