"""MuProp: exact in the mean, by enumeration; the analytic term is not forgotten."""

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


@pytest.mark.parametrize("problem", [*BITS, *ONE_HOT], ids=name_of)
def test_the_mean_over_all_samples_is_the_exact_gradient(problem):
    estimator = prepared("muprop", problem.objective(problem.leaf_tensors()))
    for found, exact in enumerated_problem(estimator, problem, samples=1).values():
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("theta", [0.1, 0.5, 0.8])
def test_the_variance_on_one_coin_is_that_of_the_third_power(theta):
    """The remainder of (b - t)^2 around theta is (b - theta)^2, so the score term is (b - theta)^3."""
    p, target = theta * (1 - theta), 0.45
    logits = probability(theta)
    mean, variance = enumerated(prepared("muprop", objective_of(logits, square(target))), logits, square(target), 1)
    assert float(mean) == pytest.approx(p * (1 - 2 * target), rel=1e-12)
    expected = p * ((1 - theta) ** 5 + theta**5) - (p * (1 - 2 * theta)) ** 2
    assert float(variance) == pytest.approx(expected, rel=1e-10, abs=1e-17)


@pytest.mark.parametrize("categories", [None, 3])
def test_no_variance_where_f_is_linear(categories):
    torch.manual_seed(1)
    shape = (1, 3) if categories is None else (1, 2, categories)
    logits, slope = torch.randn(shape, dtype=torch.float64), torch.randn(shape[1:], dtype=torch.float64)

    def f(z):
        return (z * slope).flatten(2 - len(shape) - 1).sum(-1)

    mean, variance = enumerated(prepared("muprop", objective_of(logits, f, categories)), logits, f, 1, categories)
    leaf = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(objective_of(leaf, f, categories).exact().sum(), [leaf])
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-13)
    assert variance.max() < 1e-28
