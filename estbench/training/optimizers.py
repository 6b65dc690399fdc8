"""The optimisers of a run, and their steps without what torch does around them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def optimizer_of(
    module: nn.Module, learning_rate: float, name: str = "adam", weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Return the optimiser of a run, ``adam``, ``adamw`` or ``sgd``, which ascends; only ``adamw`` has a decay."""
    weights = module.parameters()
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=learning_rate, maximize=True, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay, maximize=True, fused=True)
        case _:
            return torch.optim.Adam(weights, lr=learning_rate, maximize=True, fused=True)


def quick_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return what ``optimizer.step`` does: of Adam, one call of the kernel that torch calls, with the same bits.

    For small models, half of the time of torch's own step is the Python around that kernel. The moments must not be
    replaced while the returned function is in use. A step that torch would not do in one call, because weights lack
    moments or a gradient, or are of several types, is torch's own.
    """
    if type(optimizer) is not torch.optim.Adam or len({(w.dtype, w.device) for w in _weights(optimizer)}) != 1:
        return optimizer.step
    weights, state = _weights(optimizer), optimizer.state
    (group,) = optimizer.param_groups
    settings = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
    settings["beta1"], settings["beta2"] = group["betas"]
    moments: list[list[torch.Tensor]] = []

    @torch.no_grad()
    def step() -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if len(gradients) < len(weights) or not (moments or all(map(state.get, weights))):
            optimizer.step()
            return
        if not moments:
            moments.extend([state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq", "step"))
        first, second, steps = moments
        torch._foreach_add_(steps, 1.0)
        torch._fused_adam_(weights, gradients, first, second, [], steps, lr=group["lr"], **settings)

    return step


def _weights(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
