"""The Poisson toy's expectations and gradients, against sums over counts."""

from __future__ import annotations

import pytest
import torch

from estbench import problems
from estbench.errors import EstbenchError


@pytest.mark.parametrize("rate", [0.1, 2.0, 7.5])
@pytest.mark.parametrize("k", [0.4, 3.0])
@pytest.mark.parametrize("cost", ["quadratic", "exponential", "cosine"])
def test_the_exact_value_and_gradient_are_those_of_the_sum_over_counts(cost, k, rate):
    problem = problems.create(f"poisson_toy[cost={cost},k={k},rate={rate},dimensions=2]").double()
    x = torch.zeros(3, 1, dtype=torch.float64)
    log_rate = problem.encode(x)["log_rate"].detach().clone().requires_grad_()
    objective = problem.objective({"log_rate": log_rate}, x)
    axis = torch.arange(60, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[:, None].expand(-1, 3, -1)
    summed = (objective.q.log_prob(z).exp() * objective.f(z)).sum(0)
    torch.testing.assert_close(objective.exact(), summed, rtol=1e-10, atol=1e-10)
    found, expected = (torch.autograd.grad(value.sum(), log_rate)[0] for value in (objective.exact(), summed))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_an_exponential_cost_that_grows_is_refused():
    with pytest.raises(EstbenchError, match="takes k >= 0"):
        problems.create("poisson_toy[cost=exponential,k=-1]")
