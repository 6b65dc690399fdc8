"""Double control variates: exact in the mean for any alpha, by enumeration, and never needed where f is constant."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import BITS, enumerated, enumerated_problem, name_of, objective_of, prepared

LOGITS = torch.tensor([[-0.8, 0.3, 1.2]], dtype=torch.float64)
SLOPE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def curved(z):
    """A sum of squares and a product: neither linear nor far from it."""
    return (z * SLOPE).sum(-1) + 0.5 * z.prod(-1) - 0.3 * (z - 0.45).square().sum(-1)


def estimator_at(alpha, variant="double-cv"):
    estimator = prepared(variant, objective_of(LOGITS, curved))
    estimator.alpha.data.fill_(alpha)
    return estimator


@pytest.mark.parametrize("problem", BITS, ids=name_of)
@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.7])
@pytest.mark.parametrize("samples", [2, 3])
def test_the_mean_over_all_samples_is_the_exact_gradient_for_any_alpha(problem, alpha, samples):
    estimator = estimator_at(alpha, f"double-cv[num_samples={samples}]")
    for found, exact in enumerated_problem(estimator, problem, samples).values():
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_no_variance_at_alpha_one_where_f_is_linear():
    def linear(z):
        return (z * SLOPE).sum(-1) + 3

    mean, variance = enumerated(estimator_at(1.0), LOGITS, linear, 2)
    theta = LOGITS.sigmoid()
    torch.testing.assert_close(mean, SLOPE * theta * (1 - theta), rtol=0, atol=1e-13)
    assert variance.max() < 1e-28
    assert enumerated(estimator_at(0.0), LOGITS, linear, 2)[1].min() > 0.01


def test_alpha_zero_is_rloo():
    leaf = LOGITS.expand(50, 1, 3).clone().requires_grad_()
    gradients = []
    for estimator in (estimator_at(0.0), prepared("rloo", objective_of(LOGITS, curved))):
        torch.manual_seed(0)
        gradients += torch.autograd.grad(estimator(objective_of(leaf, curved)).sum(), [leaf])
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


def test_a_linear_expansion_takes_away_most_of_the_variance_of_a_curved_f():
    with_it, without = (enumerated(estimator_at(alpha), LOGITS, curved, 2)[1].sum() for alpha in (1.0, 0.0))
    assert with_it < 0.1 * without
