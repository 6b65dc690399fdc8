"""Arrival times: the counts that they make, their relaxation, and the size of the bias."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from estbench import estimators, measure, problems
from estbench.problems import family_objective

RATE = 2.5


def seen_by_f(variant, batch=50_000, rate=RATE):
    log_rate = torch.full((batch, 1), rate, dtype=torch.float64).log().requires_grad_()
    seen = []

    def f(z):
        seen.append(z)
        return z.square().sum(-1)

    torch.manual_seed(0)
    estimators.create(variant)(family_objective("poisson", {"log_rate": log_rate}, f)).sum().backward()
    return seen[0][0, :, 0].detach(), log_rate.grad


def test_hard_counts_are_poisson():
    """Chi-squared test of 50,000 counts, classes 0 to 8 and more; false alarm 1e-4."""
    z, _ = seen_by_f("arrival-times[hard=true]")
    torch.testing.assert_close(z, z.round(), rtol=0, atol=1e-12)
    found = torch.bincount(z.round().long().clamp(max=9), minlength=10).numpy()
    mass = stats.poisson(RATE).pmf(range(9))
    assert stats.chisquare(found, 50_000 * torch.tensor([*mass, 1 - mass.sum()]).numpy()).pvalue > 1e-4


def test_a_small_temperature_gives_counts():
    soft, _ = seen_by_f("arrival-times[temperature=0.001]")
    hard, _ = seen_by_f("arrival-times[hard=true]")
    assert float(((soft - hard).abs() < 0.01).double().mean()) > 0.97


def test_no_more_are_counted_than_are_drawn():
    z, _ = seen_by_f("arrival-times[hard=true,arrivals=4]")
    assert float(z.max()) == 4


def test_the_gradient_is_that_of_the_formula():
    """f = z^2: 2 z' sum_k sigmoid'((1 - t_k) / T) t_k / T, because d t_k / d log rate = -t_k."""
    batch = 7
    _, found = seen_by_f("arrival-times[temperature=0.3,arrivals=6]", batch)
    torch.manual_seed(0)
    times = torch.empty(6, 1, batch, 1, dtype=torch.float64).exponential_().cumsum(0) / RATE
    soft = ((1 - times) / 0.3).sigmoid()
    kl = RATE * torch.tensor(RATE, dtype=torch.float64).log()  # to the rate 1
    expected = 2 * soft.sum(0) * (soft * (1 - soft) * times / 0.3).sum(0) - kl
    torch.testing.assert_close(found, expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", ["arrival-times", "arrival-times[hard=true]"])
def test_its_mean_is_near_the_exact_gradient_and_its_variance_below_the_score_functions(variant):
    """On a smooth cost: a bias, which is declared, of less than a third of the gradient; 20,000 draws."""
    problem = problems.create("poisson_toy[k=4,rate=2.5]").double()
    x = torch.zeros(1, 1, dtype=torch.float64)
    drawn, score = (
        measure.draw_gradients(problem, estimators.create(each), x, 20_000)["log_rate"]
        for each in (variant, "reinforce")
    )
    exact = torch.autograd.grad(problem(x).exact().sum(), problem.log_rate)[0]
    assert float(((drawn.mean(0) - exact) / exact).abs().max()) < 1 / 3
    assert drawn.var() < 0.75 * score.var()
    assert not estimators.create(variant).unbiased
