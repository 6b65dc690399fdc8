"""The exact objectives of the Poisson problems: the truncation loses nothing, and draws agree."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from estbench.certify import small_problems_for
from estbench.certify.problems import counts
from estbench.certify.problems.counts import COUNTS, POISSON


def test_an_estimator_of_counts_is_checked_on_four_problems_under_both_kls():
    problems = small_problems_for({"poisson"}, {"elbo"})
    assert len(problems) == 4
    assert {problem.analytic_kl for problem in problems} == {True, False}


@pytest.mark.parametrize("problem", POISSON, ids=lambda problem: problem.name)
def test_what_is_cut_off_is_below_rounding(problem):
    rate = float(problem.params["log_rate"].exp().max())
    assert rate < 4.5
    assert stats.poisson(rate).sf(COUNTS - 1) < 1e-22


def test_the_closed_form_is_the_truncated_sum():
    """Of exp(w . z / 2), on a problem of two latents."""
    problem = counts._make_problem(2, "exponential", 3, analytic_kl=False)
    leaves = problem.leaf_tensors()
    params = {"log_rate": leaves["log_rate"]}
    prior = {"log_rate": leaves["prior log_rate"]}
    sides = [
        make(problem.latents)(params, prior, leaves["weights"])
        for make in (counts._exponential, lambda latents: counts._truncated(latents, counts.INTEGRANDS["exponential"]))
    ]
    torch.testing.assert_close(*sides, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("problem", POISSON, ids=lambda problem: problem.name)
def test_the_exact_objective_is_the_mean_of_many_draws(problem):
    """n = 100,000 draws; a z-test for each example, false alarm 1e-4 over all problems."""
    objective = problem.objective(problem.leaf_tensors())
    with torch.no_grad():
        torch.manual_seed(0)
        values = objective.f(objective.q.sample((100_000,))) - objective.kl()
        score = (values.mean(0) - objective.exact()) / values.std(0) * math.sqrt(len(values))
    assert float(score.abs().max()) < stats.norm.isf(1e-4 / (2 * 3 * len(POISSON)))
