"""Freeze models while they are measured; afterwards they are exactly as before."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter


@contextlib.contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode for a ``with`` block, and undo afterwards whatever the block does to them.

    These are restored: the mode of each module (its user may keep one in eval mode), weights and buffers (running
    statistics, counters), plain attributes (a cache that was filled without gradients), the gradients of weights, and
    which weights have one.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import frozen
    >>> model = torch.nn.Linear(2, 1)
    >>> before = model.weight.detach().clone()
    >>> with frozen(model), torch.no_grad():
    ...     _ = model.weight.zero_()
    >>> model.training, torch.equal(model.weight, before)
    (True, True)
    """
    kept, modes = ModelSnapshot(*models), [model.training for model in models]
    gradients = [(weight, weight.grad) for model in models for weight in model.parameters()]
    for weight, _ in gradients:
        weight.grad = None  # a backward call would add to it in place
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, modes, strict=True):
            model.train(training)  # a model may do more here than set its flag
        kept.restore()
        for weight, gradient in gradients:
            weight.grad = gradient


class ModelSnapshot:
    """A copy of the weights and buffers of models, and of the attributes of each module (its mode among them)."""

    def __init__(self, *models: nn.Module) -> None:
        self.modules = [
            (module, dict(vars(module)), dict(module._parameters), dict(module._buffers))  # noqa: SLF001
            for module in dict.fromkeys(module for model in models for module in model.modules())
        ]
        tensors = {
            id(tensor): tensor
            for _, _, parameters, buffers in self.modules
            for tensor in (*parameters.values(), *buffers.values())
            if tensor is not None and not isinstance(tensor, UninitializedBuffer | UninitializedParameter)
        }
        self.values = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors.values()]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the models back into this state."""
        for module, attributes, parameters, buffers in self.modules:
            _put_back(vars(module), attributes)
            _put_back(module._parameters, parameters)  # noqa: SLF001
            _put_back(module._buffers, buffers)  # noqa: SLF001
        for tensor, _, requires_grad in self.values:
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
        for tensor, value in _changed([(tensor, value) for tensor, value, _ in self.values]):
            tensor.copy_(value)


def _changed(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pairs that differ; one look at each device."""
    by_device: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}
    for tensor, value in pairs:
        by_device.setdefault(tensor.device, []).append((tensor, value))
    for device, own in by_device.items():
        if device.type == "cpu":
            yield from (pair for pair in own if not torch.equal(*pair))
        else:
            differ = torch.stack([tensor.ne(value).any() for tensor, value in own]).tolist()
            yield from itertools.compress(own, differ)


def _put_back(now: Any, before: Mapping[str, Any]) -> None:
    """Give a mapping the entries that it had, without comparing tensors."""
    if now.keys() == before.keys() and all(now[name] is value for name, value in before.items()):
        return
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update(before)
