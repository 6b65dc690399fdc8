"""Longest cells first, so that no long one begins when the others are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from estbench.experiment import Cell
from estbench.failures import is_stop
from estbench.training import State
from estbench.training.isolation import isolated

# A gradient step passes through the model forwards and backwards; a bound only forwards.
BACKWARD = 3
SPLITS = 3


def longest_first(cells: Iterable[Cell], interrupted: Callable[[], bool] = lambda: False) -> list[Cell]:
    """The cells by their estimated cost; those of equal cost in the order of the plan."""
    known: dict[tuple[str, str], tuple[int, int]] = {}

    def cost(cell: Cell) -> float:
        pair = (cell.problem.label, cell.estimator.label)
        if pair not in known:
            known[pair] = _size(cell, interrupted)
        weights, evaluations = known[pair]
        training, evaluation, probe = cell.training, cell.evaluation, cell.probe
        gradients = (training.steps + probe.points * probe.replicates) * training.batch_size * evaluations * BACKWARD
        bounds = (training.steps / evaluation.every + 1) * SPLITS * evaluation.examples * evaluation.num_samples
        return weights * (gradients + bounds)

    return sorted(cells, key=cost, reverse=True)


def _size(cell: Cell, interrupted: Callable[[], bool]) -> tuple[int, int]:
    """Weights of the model, and evaluations of f per example; of an estimator that cannot be built, the least."""
    try:
        with isolated(), torch.random.fork_rng([]):
            state = State(cell, torch.device("cpu"))
            return sum(weight.numel() for weight in state.problem.parameters()), state.evaluations_per_example
    except BaseException as error:
        if is_stop(error, interrupted):
            raise
        return 1, 1
