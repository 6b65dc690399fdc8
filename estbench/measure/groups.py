"""Groups of weights, in the one order that all measurements of a group share."""

from __future__ import annotations

from torch import nn

from estbench.problems import Problem

LAYERS = (nn.Linear, nn.Conv2d)


def groups_of(problem: Problem, *, layers: bool = False) -> dict[str, list[nn.Parameter]]:
    """The problem's groups, or each split by layer (``encoder.0``, ...): linear layers first, and then what is left."""
    owners = {weight: module for module in problem.modules() for weight in module.parameters(recurse=False)}
    found: dict[str, list[nn.Parameter]] = {}
    for group, weights in problem.groups().items():
        modules = list(dict.fromkeys(owners.get(weight) for weight in weights))
        modules.sort(key=lambda module: not isinstance(module, LAYERS))
        for index, module in enumerate(modules):
            name = f"{group}.{index}" if layers else group
            found.setdefault(name, []).extend(weight for weight in weights if owners.get(weight) is module)
    return found
