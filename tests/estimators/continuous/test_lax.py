"""LAX: what its network takes away, and what it is without one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from estbench import estimators
from estbench.certify import small_problems_for
from estbench.certify.sampling import sample_gradients
from estbench.errors import EstbenchError
from estbench.problems import family_objective

SLOPE = torch.tensor([0.7, -1.3], dtype=torch.float64)


def objective_of(leaves, f, context=None):
    return family_objective("normal", leaves, f, context=context)


def leaves_of(batch):
    torch.manual_seed(0)
    return {name: torch.randn(batch, 2, dtype=torch.float64).requires_grad_() for name in ("loc", "log_scale")}


def gradients(estimator, leaves, f, seed=1):
    torch.manual_seed(seed)
    return torch.autograd.grad(estimator(objective_of(leaves, f)).sum(), list(leaves.values()))


def prepared(objective, variant="lax"):
    estimator = estimators.create(variant).double()
    estimator.prepare(objective)
    return estimator.eval()


@pytest.mark.parametrize("samples", [1, 3])
def test_with_a_network_of_zeros_it_is_the_score_function(samples):
    leaves = leaves_of(5)
    estimator = prepared(objective_of(leaves, torch.Tensor.sum), f"lax[num_samples={samples}]")
    for weight in estimator.network.parameters():
        nn.init.zeros_(weight)
    cost = lambda z: z.square().sum(-1)  # noqa: E731
    score = estimators.create(f"reinforce[num_samples={samples}]")
    for found, expected in zip(gradients(estimator, leaves, cost), gradients(score, leaves, cost), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_with_f_itself_as_the_network_it_is_the_pathwise_gradient():
    leaves = leaves_of(5)
    estimator = prepared(objective_of(leaves, torch.Tensor.sum))
    estimator.network = nn.Linear(2, 1).double()
    estimator.network.weight.data.copy_(SLOPE[None])
    nn.init.zeros_(estimator.network.bias)
    linear = lambda z: z @ SLOPE  # noqa: E731
    pathwise = gradients(estimators.create("reparam"), leaves, linear)
    for found, expected in zip(gradients(estimator, leaves, linear), pathwise, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("family", ["normal", "gamma", "weibull"])
def test_training_takes_away_most_of_the_variance(family):
    """100 steps of Adam: at most half of the variance is left. After 300, in a first look, it was a tenth."""
    problem = small_problems_for({family}, {"elbo"})[0]
    estimator = prepared(problem.objective(problem.leaf_tensors()))

    def variance():
        torch.manual_seed(2)
        drawn = sample_gradients(estimator.eval(), problem, 3000)
        return sum(float(drawn[name].var(0).sum()) for name in problem.params)

    before = variance()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02, maximize=True)
    torch.manual_seed(3)
    estimator.train()
    for _ in range(100):
        optimizer.zero_grad()
        estimator(problem.objective(problem.leaf_tensors(32, plain=True))).mean().backward()
        optimizer.step()
    assert variance() < 0.5 * before


def test_the_network_sees_the_latents_and_the_input():
    leaves = leaves_of(4)
    assert prepared(objective_of(leaves, torch.Tensor.sum)).network[0].in_features == 2
    context = torch.zeros(4, 7, dtype=torch.float64)
    assert prepared(objective_of(leaves, torch.Tensor.sum, context)).network[0].in_features == 9


def test_without_prepare_it_says_what_to_do():
    with pytest.raises(EstbenchError, match=r"lax has no network yet; call estimator.prepare"):
        gradients(estimators.create("lax"), leaves_of(2), lambda z: z.sum(-1))
