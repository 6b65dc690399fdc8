"""Straight-through: exact where f is linear, and biased by a known amount on a square."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import (
    BITS,
    ONE_HOT,
    enumerated,
    enumerated_problem,
    name_of,
    objective_of,
    prepared,
    probability,
    square,
)


@pytest.mark.parametrize("categories", [None, 4])
def test_exact_and_without_variance_where_f_is_linear(categories):
    torch.manual_seed(1)
    shape = (2, 3) if categories is None else (2, 2, categories)
    logits, slope = torch.randn(shape, dtype=torch.float64), torch.randn(shape[1:], dtype=torch.float64)

    def f(z):
        return (z * slope).flatten(z.dim() - slope.dim()).sum(-1)

    estimator = prepared("straight-through", objective_of(logits, f, categories))
    mean, variance = enumerated(estimator, logits, f, 1, categories)
    leaf = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(objective_of(leaf, f, categories).exact().sum(), [leaf])
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-13)
    assert variance.max() < 1e-28


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.8])
def test_the_bias_on_one_coin_is_the_known_one(theta):
    """p E[2 (b - t)] = 2 p (theta - t) in place of p (1 - 2 t): right for a fair coin alone."""
    p, target, logits = theta * (1 - theta), 0.45, probability(theta)
    estimator = prepared("straight-through", objective_of(logits, square(target)))
    mean, variance = enumerated(estimator, logits, square(target), 1)
    assert float(mean) == pytest.approx(2 * p * (theta - target), rel=1e-12)
    assert float(variance) == pytest.approx(4 * p**3, rel=1e-12)


@pytest.mark.parametrize("problem", [*BITS, *ONE_HOT], ids=name_of)
def test_the_decoder_s_gradient_is_exact_all_the_same(problem):
    estimator = prepared("straight-through", problem.objective(problem.leaf_tensors()))
    found, exact = enumerated_problem(estimator, problem, 1)["weights"]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
    biased, truth = enumerated_problem(estimator, problem, 1)["logits"]
    assert (biased - truth).norm() > 0.02 * truth.norm()
