"""Learned parts go where the variance falls, and nothing else moves with them."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import all_samples, enumerated, fixed_samples, objective_of, prepared

LOGITS = torch.tensor([[-0.8, 0.3]], dtype=torch.float64)


def f(z):
    return (z[..., 0] - 0.4).square() * (1 + z[..., 1]) + z[..., 1]


def test_the_mean_gradient_of_alpha_is_the_fall_of_the_variance():
    """Both by enumeration: the variance is a quadratic in alpha, so a central difference of it is exact."""
    estimator = prepared("double-cv", objective_of(LOGITS, f))
    alpha, step = 0.3, 0.5
    variances = []
    for value in (alpha + step, alpha - step):
        estimator.alpha.data.fill_(value)
        variances.append(float(enumerated(estimator, LOGITS, f, 2)[1].sum()))
    estimator.train().alpha.data.fill_(alpha)
    gradient = 0.0
    for pair in all_samples(objective_of(LOGITS, f).q, 2).unbind(1):
        objective = fixed_samples(objective_of(LOGITS.clone().requires_grad_(), f), pair)
        (found,) = torch.autograd.grad(estimator(objective).sum(), [estimator.alpha])
        gradient += float(objective.frozen_q().log_prob(pair).sum(0).exp() * found)
    assert gradient == pytest.approx(-(variances[0] - variances[1]) / (2 * step), rel=1e-6)  # alpha is a float32


@pytest.mark.parametrize("variant", ["double-cv", "rodeo[hidden=4]", "rebar", "relax[hidden=4]"])
def test_learning_moves_the_learned_parts_and_nothing_else(variant):
    """All of them have a gradient in training mode, none in eval mode; that of the logits is the same bits."""
    estimator = prepared(variant, objective_of(LOGITS, f))
    leaf = LOGITS.expand(20, 1, 2).clone().requires_grad_()

    def gradients(training):
        torch.manual_seed(0)
        surrogate = estimator.train(training)(objective_of(leaf, f)).mean()
        return torch.autograd.grad(surrogate, [leaf, *estimator.parameters()], allow_unused=True)

    moved, *learned = gradients(training=True)
    still, *frozen = gradients(training=False)
    assert torch.equal(moved, still)
    assert all(gradient.isfinite().all() and gradient.ne(0).any() for gradient in learned)
    assert all(gradient is None for gradient in frozen)


@pytest.mark.parametrize("variant", ["double-cv", "rodeo[hidden=4]", "rebar", "relax[hidden=4]"])
def test_the_value_of_the_surrogate_is_f_at_the_samples(variant):
    """Terms that are there for their gradient add nothing: the surrogate can be read as an estimate of L."""
    estimator = prepared(variant, objective_of(LOGITS, f)).train()
    objective = objective_of(LOGITS.clone().requires_grad_(), f)
    corners, inner = [], objective._log_likelihood

    def spy(z):
        value = inner(z)
        if ((z == 0) | (z == 1)).all():
            corners.append(value.detach())
        return value

    objective._log_likelihood = spy
    surrogate = estimator(objective)
    torch.testing.assert_close(surrogate.detach(), corners[0].mean(0), rtol=0, atol=1e-13)
