"""RODEO: exact in the mean for any network and any scale, by enumeration."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import BITS, enumerated_problem, name_of, objective_of, prepared

from estbench import estimators
from estbench.errors import EstbenchError


def scaled(variant, problem, alpha, beta):
    """The estimator with a network of large weights and given scales."""
    estimator = prepared(variant, problem.objective(problem.leaf_tensors()))
    for parameter in estimator.network.parameters():
        parameter.data.mul_(3)
    estimator.alpha.data.fill_(alpha)
    estimator.beta.data.fill_(beta)
    return estimator


@pytest.mark.parametrize("problem", BITS, ids=name_of)
@pytest.mark.parametrize(("samples", "alpha", "beta"), [(2, 0.8, -1.3), (3, -2.0, 0.0), (3, 0.7, 1.5)])
def test_the_mean_over_all_samples_is_the_exact_gradient_for_any_network(problem, samples, alpha, beta):
    estimator = scaled(f"rodeo[num_samples={samples},hidden=5]", problem, alpha, beta)
    for found, exact in enumerated_problem(estimator, problem, samples).values():
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-11)


def test_without_its_control_variates_it_is_rloo():
    problem = BITS[0]
    leaves = problem.leaf_tensors(50)
    gradients = []
    for estimator in (scaled("rodeo", problem, 0.0, 0.0), prepared("rloo", problem.objective(leaves))):
        torch.manual_seed(0)
        gradients += torch.autograd.grad(estimator(problem.objective(leaves)).sum(), [leaves["logits"]])
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


@pytest.mark.slow
def test_learning_lowers_the_variance():
    problem = BITS[1]
    estimator = prepared("rodeo[hidden=20]", problem.objective(problem.leaf_tensors()))

    def variance():
        leaves = problem.leaf_tensors(20_000)
        torch.manual_seed(0)
        (found,) = torch.autograd.grad(estimator.eval()(problem.objective(leaves)).sum(), [leaves["logits"]])
        return float(found.var(0).sum())

    before = variance()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02, maximize=True)
    torch.manual_seed(1)
    for _ in range(300):
        optimizer.zero_grad()
        estimator.train()(problem.objective(problem.leaf_tensors(50))).mean().backward()
        optimizer.step()
    assert variance() < 0.7 * before


def test_before_it_is_prepared_it_says_what_to_do():
    with pytest.raises(EstbenchError, match=r"rodeo has no network yet; call estimator.prepare"):
        estimators.create("rodeo")(objective_of(torch.zeros(1, 2), lambda z: z.sum(-1)))
