"""Models that stand still while they are measured, and are afterwards exactly what they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter


@contextlib.contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode for a while; whatever a measurement does to them is undone afterwards.

    Restored are the mode of each module by itself (its user may keep one in eval mode), weights and buffers (running
    statistics, counters), plain attributes (a cache that was filled without gradients) and the weights' gradients.
    """
    kept, modes = Kept(*models), [model.training for model in models]
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


class Kept:
    """Models as they are now: a copy of weights and buffers, and each module's attributes (its mode among them)."""

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
        self.values = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]

    @torch.no_grad()
    def restore(self) -> None:
        """Make the models what they were."""
        for module, attributes, parameters, buffers in self.modules:
            _put_back(vars(module), attributes)
            _put_back(module._parameters, parameters)  # noqa: SLF001
            _put_back(module._buffers, buffers)  # noqa: SLF001
        for tensor, value in self.values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)


def _put_back(now: Any, before: Mapping[str, Any]) -> None:
    """Give a mapping the entries that it had, without a comparison of tensors."""
    if now.keys() == before.keys() and all(now[name] is value for name, value in before.items()):
        return
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update(before)
