"""Gradients of a scalar, for any modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Differentiate = Callable[[Tensor, Sequence[Tensor]], list[Tensor]]


def gradients(surrogate: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a scalar; zero if it does not depend on an input, or if the input is not trained."""
    return _filled(surrogate, inputs, lambda live: torch.autograd.grad(surrogate, live, allow_unused=True))


def accumulated_gradients(surrogate: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the same by ``backward``, for modules that allow nothing else; ``grad`` of all leaves is overwritten."""

    def by_backward(live: list[Tensor]) -> list[Tensor | None]:
        for tensor in live:
            tensor.grad = None
        surrogate.backward()  # type: ignore[no-untyped-call]
        return [tensor.grad for tensor in live]

    return _filled(surrogate, inputs, by_backward)


def differentiation_for(draw: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Differentiate:
    """Return one of the two, chosen by a trial on one draw: reentrant checkpointing refuses the first."""
    try:
        gradients(draw(), inputs)
    except RuntimeError as error:
        if "checkpoint" in str(error):
            return accumulated_gradients
        raise
    return gradients


def _filled(
    surrogate: Tensor, inputs: Sequence[Tensor], differentiate: Callable[[list[Tensor]], Sequence[Tensor | None]]
) -> list[Tensor]:
    live = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(differentiate(live)) if live and surrogate.requires_grad else iter(())
    rows = (next(found, None) if tensor.requires_grad else None for tensor in inputs)
    return [
        torch.zeros_like(tensor) if row is None else row.to_dense() if row.is_sparse else row
        for tensor, row in zip(inputs, rows, strict=True)
    ]
