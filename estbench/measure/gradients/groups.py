"""Groups of weights, in the one order that all measurements of a group share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from estbench.measure.gradients._linear import is_understood
from estbench.problems import Problem


def groups_of(problem: Problem, *, layers: bool = False) -> dict[str, list[nn.Parameter]]:
    """Return the trained weights by the problem's groups: linear layers first, and then the others.

    ``layers`` splits each group by layer (``encoder.0``, ...).
    """
    owners = {weight: module for module in problem.modules() for weight in module.parameters(recurse=False)}
    trained_by_group: dict[str, list[nn.Parameter]] = {}
    for group, weights in disjoint(problem.groups()).items():
        trained = [weight for weight in weights if weight.requires_grad]
        modules = list(dict.fromkeys(owners.get(weight) for weight in trained))
        modules.sort(key=lambda module: module is None or not is_understood(module))
        for index, module in enumerate(modules):
            name = f"{group}.{index}" if layers else group
            trained_by_group.setdefault(name, []).extend(weight for weight in trained if owners.get(weight) is module)
    return trained_by_group


def disjoint(groups: Mapping[str, Iterable[nn.Parameter]]) -> dict[str, list[nn.Parameter]]:
    """Return groups in which each weight counts once: tied weights belong to the first group that names them."""
    first: dict[nn.Parameter, str] = {}
    for group, weights in groups.items():
        for weight in weights:
            first.setdefault(weight, group)
    return {group: [weight for weight, own in first.items() if own == group] for group in groups}
