"""The optimisers of a run, and their steps without what torch does around them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer


class _Plain(Optimizer):
    """An optimiser whose methods are not wrapped against torch's compiler, which takes a second to import."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class _Adam(_Plain, torch.optim.Adam):
    pass


class _AdamW(_Plain, torch.optim.AdamW):
    pass


class _SGD(_Plain, torch.optim.SGD):
    pass


# Torch wraps the step of a class when its first optimiser is made: here, so that no cell is said to have done it.
for _kind in (_Adam, _AdamW, _SGD):
    _kind([torch.zeros(())], lr=1.0)


def optimizer_of(module: nn.Module, learning_rate: float, name: str = "adam", weight_decay: float = 0.0) -> Optimizer:
    """Return the optimiser of a run, ``adam``, ``adamw`` or ``sgd``, which ascends; only ``adamw`` has a decay."""
    weights = module.parameters()
    match name:
        case "sgd":
            return _SGD(weights, lr=learning_rate, maximize=True, fused=True)
        case "adamw":
            return _AdamW(weights, learning_rate, weight_decay=weight_decay, maximize=True, fused=True)
        case _:
            return _Adam(weights, lr=learning_rate, maximize=True, fused=True)


def quick_step(optimizer: Optimizer) -> Callable[[], object]:
    """Return what ``optimizer.step`` does: of Adam, one call of the kernel that torch calls, with the same bits.

    For small models, half of the time of torch's own step is the Python around that kernel. The moments must not be
    replaced while the returned function is in use. A step that torch would not do in one call, because weights lack a
    gradient or are of several types, is torch's own.
    """
    if type(optimizer) is not _Adam or len({(w.dtype, w.device) for w in _weights(optimizer)}) != 1:
        return optimizer.step
    weights, state = _weights(optimizer), optimizer.state
    (group,) = optimizer.param_groups
    settings = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
    settings["beta1"], settings["beta2"] = group["betas"]
    moments: list[list[torch.Tensor]] = []

    @torch.no_grad()
    def step() -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if len(gradients) < len(weights):
            optimizer.step()
            return
        if not moments:
            for weight in weights:
                state[weight] = state[weight] or _no_moments(weight)
            moments.extend([state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq", "step"))
        first, second, steps = moments
        torch._foreach_add_(steps, 1.0)
        torch._fused_adam_(weights, gradients, first, second, [], steps, lr=group["lr"], **settings)

    return step


def _no_moments(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "step": torch.zeros((), device=weight.device),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
    }


def _weights(optimizer: Optimizer) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
