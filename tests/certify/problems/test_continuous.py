"""The exact objectives of the continuous problems: moments against many draws, the Student t's KL by another rule."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats

from estbench.certify.problems.continuous import CONTINUOUS, _student_t_kl
from estbench.latents import IMPLICIT


def test_each_family_has_three_problems_under_both_kls():
    for family in IMPLICIT:
        problems = [problem for problem in CONTINUOUS if problem.latents.name == family]
        assert len(problems) == 3
        assert {problem.analytic_kl for problem in problems} == ({False} if family == "student-t" else {True, False})


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("problem", CONTINUOUS, ids=lambda problem: problem.name)
def test_the_exact_objective_is_the_mean_of_many_draws(problem):
    """n = 200,000 draws; a z-test for each of two examples, false alarm 1e-4 over all problems."""
    leaves = problem.leaf_tensors()
    objective = problem.objective(leaves)
    with torch.no_grad():
        torch.manual_seed(0)
        values = objective.f(objective.q.sample((200_000,))) - objective.kl()
        score = (values.mean(0) - objective.exact()) / values.std(0) * math.sqrt(len(values))
    assert float(score.abs().max()) < stats.norm.isf(1e-4 / (2 * 2 * len(CONTINUOUS)))


@pytest.mark.parametrize(("log_excess_df", "loc", "log_scale"), [(2.5, 0.4, -0.3), (3.0, -0.5, 0.1), (1.0, 0.0, 0.0)])
def test_the_kl_of_student_t_is_that_by_adaptive_quadrature(log_excess_df, loc, log_scale):
    values = {"log_excess_df": log_excess_df, "loc": loc, "log_scale": log_scale}
    params = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in values.items()}
    standard = {name: torch.zeros_like(value) for name, value in params.items()}
    q, p = stats.t(2 + math.exp(log_excess_df), loc, math.exp(log_scale)), stats.t(3)
    expected, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -math.inf, math.inf, epsabs=1e-12, epsrel=1e-12, limit=500
    )
    assert float(_student_t_kl(params, standard)) == pytest.approx(expected, abs=1e-10)
