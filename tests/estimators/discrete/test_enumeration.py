"""Enumeration is the exact objective, for as many values as can be summed over, and says so where there are more."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import name_of, objective_of, prepared

from estbench import estimators
from estbench.certify import small_problems_for
from estbench.errors import EstbenchError


@pytest.mark.parametrize(
    "problem", small_problems_for({"bernoulli", "categorical"}, {"elbo", "multi-sample"}), ids=name_of
)
def test_every_draw_is_the_exact_gradient_of_encoder_and_decoder(problem):
    leaves = problem.leaf_tensors(3)
    objective = problem.objective(leaves)
    estimator = prepared("enumeration", objective)
    found = torch.autograd.grad(estimator(objective).sum(), list(leaves.values()))
    assert objective.evaluations == estimator.count_evaluations(objective) * 3 * len(problem.weights)
    for gradient, exact in zip(found, problem.exact_gradient().values(), strict=True):
        torch.testing.assert_close(gradient, exact.expand_as(gradient), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("shape", "categories", "evaluations"), [((1, 12), None, 4096), ((1, 6, 4), 4, 4096)])
def test_up_to_4096_values(shape, categories, evaluations):
    objective = objective_of(torch.zeros(shape), lambda z: z.flatten(2).sum(-1), categories)
    assert estimators.create("enumeration").count_evaluations(objective) == evaluations


@pytest.mark.parametrize(("shape", "categories"), [((1, 13), None), ((1, 200), None), ((1, 20, 10), 10)])
def test_more_are_refused_before_training(shape, categories):
    objective = objective_of(torch.zeros(shape), lambda z: z.flatten(2).sum(-1), categories)
    with pytest.raises(EstbenchError, match=r"at most 4096 values.*take fewer latents \(12 bits, say\)"):
        prepared("enumeration", objective)
