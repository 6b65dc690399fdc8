"""The learned network of a control variate, as RELAX and LAX have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.problems import Objective


def control_network(objective: Objective, hidden: int) -> nn.Sequential:
    """Return a tanh network from a value of q, and the input if there is one, to one number."""
    observed = 0 if objective.context is None else objective.context.shape[-1]
    inputs = objective.q.event_shape.numel() + observed
    network = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return network.to(next(iter(objective.params.values())))


def control_value(network: nn.Sequential, objective: Objective, z: Tensor) -> Tensor:
    """Return r(z, x), (S, *batch, *event) to (S, *batch)."""
    inputs = z.flatten(-len(objective.q.event_shape))
    if objective.context is not None:
        context = objective.context
        inputs = torch.cat([inputs, context.expand(*inputs.shape[:-1], context.shape[-1])], -1)
    learned: Tensor = network(inputs).squeeze(-1)
    return learned


def check_prepared(estimator: nn.Module, name: str) -> None:
    """Raise ``EstbenchError`` if the network of an estimator was not built."""
    if not hasattr(estimator, "network"):
        raise EstbenchError(f"{name} has no network yet; call estimator.prepare(problem(x)) once, before use")
