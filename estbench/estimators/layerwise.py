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
    """Build an estimator for a problem, as ``create`` does, with an instance for each of its stochastic layers.

    Raises ``EstbenchError`` if the problem is not what the estimator requires: see ``check_for``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[bits=3]")
    >>> estimators.create_for("rloo[num_samples=4]", problem)(problem(torch.zeros(5, 1))).shape
    torch.Size([5])
    >>> estimators.create_for("rqmc", problem)
    Traceback (most recent call last):
    estbench.errors.EstbenchError: estimator 'rqmc' requires normal latents (from loc and log_scale), and q is ...
    """
    estimator = create(variant)
    if problem.layers > 1:
        estimator = Layerwise(estimator, create(variant))
    check_for(estimator, problem)
    return estimator


class Layerwise(Estimator):
    """An instance of an estimator for each of two layers; see ``TwoLayerObjective``.

    The first estimates the gradient of the first layer, the second that of V, which is part of its f. Each layer has
    its own samples, sizes, moving averages and learned parts. If the instances are unbiased, so are both together,
    because a sample's own f and its gradient enter the estimate linearly.
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
        # This also finds out, before the first step, whether the estimator needs a prior, which a first layer lacks.
        self.evaluations = self.count_evaluations(objective)

    def count_evaluations(self, objective: Objective) -> int:
        """Count them in a trial call: only the first instance knows how often f is called, and with gradients on."""
        trial = copy.copy(objective)
        modes = [(module, module.training) for module in self.modules()]
        trial.evaluations = 0
        device = next(iter(objective.params.values())).device
        self.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            self(trial)
        for module, training in modes:
            module.training = training
        return trial.evaluations // objective.batch_shape.numel()

    def forward(self, objective: Objective) -> Tensor:
        estimated = _layered(objective).estimated_by(self.second)
        surrogate: Tensor = self.first(estimated)
        objective.evaluations = estimated.evaluations
        return surrogate


def _layered(objective: Objective) -> TwoLayerObjective:
    if not isinstance(objective, TwoLayerObjective):
        raise EstbenchError("an estimator of two layers needs an objective with two layers, a TwoLayerObjective")
    return objective
