"""One estimator for problems with two stochastic layers: an instance for each."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator, create
from estbench.estimators.compatibility import check_for
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.variant import Variant


def create_for(variant: str | Variant, problem: Problem) -> Estimator:
    """Build an estimator for a problem, once the problem is known to be what it requires.

    As ``create`` does, and with an instance for each of the problem's stochastic layers.
    """
    estimator = create(variant)
    if problem.layers > 1:
        estimator = Layerwise(estimator, create(variant))
    check_for(estimator, problem)
    return estimator


class Layerwise(Estimator):
    """The first instance estimates the gradient of the first layer, the second that of V, which is part of its f.

    Layers have samples, sizes, moving averages and learned parts of their own. Where the instances are unbiased, so are
    both together: a sample's own f and slope enter the estimate linearly, and their noise averages out.
    """

    def __init__(self, first: Estimator, second: Estimator) -> None:
        super().__init__(first.options)
        self.first, self.second = first, second
        for fact in ("name", "version", *first.facts()):
            setattr(self, fact, getattr(first, fact))
        self.evaluations = "of both layers"  # until they are counted

    def prepare(self, objective: Objective) -> None:
        self.first.prepare(objective)
        self.second.prepare(_layered(objective).second(objective.q.sample()))
        # Also finds out, before the first step, whether the estimator can do without what a first layer lacks.
        self.evaluations = self.count_evaluations(objective)

    def count_evaluations(self, objective: Objective) -> int:
        """Counted in a rehearsal: how often f is called, and with gradients on, is the first instance's affair."""
        rehearsed = copy.copy(objective)
        modes = [(module, module.training) for module in self.modules()]
        rehearsed.evaluations = 0
        device = next(iter(objective.params.values())).device
        self.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            self(rehearsed)
        for module, training in modes:
            module.training = training
        return rehearsed.evaluations // objective.batch_shape.numel()

    def forward(self, objective: Objective) -> Tensor:
        estimated = _layered(objective).estimated_by(self.second)
        surrogate: Tensor = self.first(estimated)
        objective.evaluations = estimated.evaluations
        return surrogate


def _layered(objective: Objective) -> TwoLayerObjective:
    if not isinstance(objective, TwoLayerObjective):
        raise EstbenchError("an estimator of two layers needs an objective with two layers, a TwoLayerObjective")
    return objective
