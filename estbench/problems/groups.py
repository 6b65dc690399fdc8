"""Groups of weights that a problem has by default: found from the names of its attributes, and from q."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from estbench.randomness import kept_random_state

ENCODER, DECODER, PRIOR = GROUPS = ("encoder", "decoder", "prior")


def default_groups(model: nn.Module, of_q: Callable[[], Sequence[Tensor]]) -> dict[str, list[nn.Parameter]]:
    """Return every weight of a model in exactly one of the groups ``encoder``, ``decoder`` and ``prior``.

    The outermost attribute on the way to a weight whose name is one of these decides:

    * begins or ends with ``encoder`` (``encoder``, ``second_encoder``): ``encoder``;
    * begins or ends with ``decoder``: ``decoder``;
    * contains ``prior``: ``prior``.

    A weight without such a name belongs to ``encoder`` if q depends on it, and otherwise to ``decoder``. ``of_q``
    returns tensors that q depends on through all its weights; it is called only if there are such weights, in eval
    mode. Modes and torch's random state are left as they were. Tied weights belong to the first of their groups.

    Within a group the attribute of that very name comes first, then the others in the order in which the module lists
    them, then the weights without a name. Groups without a weight are left out.

    Examples
    --------
    >>> from torch import nn
    >>> from estbench.problems.groups import default_groups
    >>> model = nn.ModuleDict({"image_decoder": nn.Linear(2, 64), "encoder": nn.Linear(64, 4, bias=False)})
    >>> groups = default_groups(model, list)  # all weights have names, so q is not asked for
    >>> {group: [tuple(weight.shape) for weight in weights] for group, weights in groups.items()}
    {'encoder': [(4, 64)], 'decoder': [(64, 2), (64,)]}
    """
    # Tied weights have several names.
    placed = [(_place(name), weight) for name, weight in model.named_parameters(remove_duplicate=False)]
    first: dict[nn.Parameter, str] = {}
    for group in GROUPS:
        own = [(attribute != group, weight) for (of, attribute), weight in placed if of == group]
        for _, weight in sorted(own, key=lambda pair: pair[0]):
            first.setdefault(weight, group)
    others = [weight for weight in model.parameters() if weight not in first]
    if others:
        found = _weights_of_q(model, of_q, others)
        first |= {weight: ENCODER if weight in found else DECODER for weight in others}
    groups = {group: [weight for weight, own in first.items() if own == group] for group in GROUPS}
    return {group: weights for group, weights in groups.items() if weights}


def _place(name: str) -> tuple[str, str]:
    """Return the group of a weight and the attribute that decides it; empty if none does."""
    for attribute in name.split("."):
        if attribute.startswith(ENCODER) or attribute.endswith(ENCODER):
            return ENCODER, attribute
        if attribute.startswith(DECODER) or attribute.endswith(DECODER):
            return DECODER, attribute
        if PRIOR in attribute:
            return PRIOR, attribute
    return "", ""


def _weights_of_q(
    model: nn.Module, of_q: Callable[[], Sequence[Tensor]], weights: list[nn.Parameter]
) -> set[nn.Parameter]:
    """Return those of the weights that q depends on."""
    trained = [weight for weight in weights if weight.requires_grad]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()  # a normalisation learns nothing from this
        with (
            kept_random_state(*{weight.device for weight in weights}),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            ends = [value.sum() for value in of_q() if value.requires_grad]
            if not ends or not trained:
                return set()
            gradients = torch.autograd.grad(ends, trained, allow_unused=True)
    finally:
        for module, training in modes:
            module.training = training
    return {weight for weight, gradient in zip(trained, gradients, strict=True) if gradient is not None}
