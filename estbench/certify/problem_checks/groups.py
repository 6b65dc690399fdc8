"""Checks of the groups of weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

from estbench.certify.check_result import CheckResult, failed, passed
from estbench.certify.problem_under_test import CPU, ProblemUnderTest, observe_examples
from estbench.estimators import surrogate_of
from estbench.problems import Problem
from estbench.randomness import seeded

CALLS = 3  # in each mode: a weight may be used only at times


def check_groups(tested: ProblemUnderTest) -> CheckResult:
    """Check that every trained weight is in exactly one group and gets a gradient, and that no other weight is."""
    problem = tested.build()
    returned, names = problem.groups(), {weight: name for name, weight in problem.named_parameters()}
    if not isinstance(returned, Mapping) or not returned:
        return failed(f"groups returns {type(returned).__name__}; return lists of weights by group")
    groups = {group: list(weights) for group, weights in returned.items()}
    uses = Counter(weight for weights in groups.values() for weight in weights)
    for group, weights in groups.items():
        foreign = sum(weight not in names for weight in weights)
        if foreign:
            message = (
                f"group '{group}' has weights that are not the problem's ({foreign}), so they are never trained; make"
                " them attributes of the problem or of one of its modules"
            )
            return failed(message)
    trained = [weight for weight in names if weight.requires_grad]
    complaints = {
        "is in no group": [weight for weight in trained if not uses[weight]],
        "is in several places of the groups": [weight for weight in trained if uses[weight] > 1],
    }
    for complaint, weights in complaints.items():
        if weights:
            remedy = "list each weight once, or leave out the method groups: by default they are found"
            return failed(f"{_list(names, weights)} {complaint}; {remedy}")
    idle = _find_without_gradient(tested, problem, trained)
    if idle:
        message = (
            f"{_list(names, idle)} never gets a gradient: the objective does not depend on it; use it, remove it, or"
            " give it requires_grad=False"
        )
        return failed(message)
    sizes = ", ".join(f"{group} {sum(weight.numel() for weight in own):,}" for group, own in groups.items())
    still = len(names) - len(trained)
    return passed(f"{sizes} weights{f', {still} tensors are not trained' if still else ''}")


def _find_without_gradient(
    tested: ProblemUnderTest, problem: Problem, trained: list[nn.Parameter]
) -> list[nn.Parameter]:
    """Return the weights that no surrogate depends on, in training or in eval mode."""
    x, estimator = observe_examples(problem), tested.create_estimator(problem)
    missing = list(trained)
    with seeded(0, CPU):
        for training in [True, False] * CALLS:
            surrogate = surrogate_of(estimator, problem.train(training)(x)).sum()
            gradients = torch.autograd.grad(surrogate, missing, allow_unused=True) if missing else ()
            missing = [weight for weight, gradient in zip(missing, gradients, strict=True) if gradient is None]
    return missing


def _list(names: Mapping[nn.Parameter, str], weights: list[nn.Parameter]) -> str:
    """Return the names of weights; of many, the first few."""
    shown = ", ".join(names[weight] for weight in weights[:5])
    return f"{shown} and {len(weights) - 5} more" if len(weights) > 5 else shown
