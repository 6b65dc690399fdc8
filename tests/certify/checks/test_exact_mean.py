"""The expectation over an estimator's own noise: right where it is given, and not given where it is not known."""

from __future__ import annotations

import pytest
import torch
from mutants.base import Correct
from mutants.defects import IncludesItself, Rebar
from mutants.odd_but_correct import Tempered

from estbench import estimators
from estbench.certify import small_problems_for
from estbench.certify.checks.exact_mean import compare_mean, enumerate_moments
from estbench.certify.sampling import RunningMoments, draw_until
from estbench.randomness import seeded


def problem_of(latents, name="decoder"):
    (problem,) = [problem for problem in small_problems_for({latents}, {"elbo"}) if name in problem.name]
    return problem


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("latents", ["bernoulli", "categorical", "normal"])
def test_the_moments_are_those_of_many_draws(latents):
    """n = 200,000; 5 standard errors for each of at most 30 coordinates: a false alarm once in 50,000."""
    problem, estimator = problem_of(latents), estimators.create("reinforce").eval()
    exact = enumerate_moments(estimator, problem)
    moments = RunningMoments()
    with seeded(3, torch.device("cpu")):
        draw_until(200_000, moments, estimator, problem)
    for group, error in moments.error.items():
        assert ((moments.mean[group] - exact.mean[group]).abs() <= 5 * error + 1e-12).all()
        # A variance's error is at most that of a kurtosis of 50 or so.
        off = (moments.variance[group] - exact.variance[group]).abs()
        assert (off <= 5 * (50 / 200_000) ** 0.5 * exact.variance[group] + 1e-12).all()


def test_several_calls_of_sample_are_one_tuple():
    class Twice(Correct):
        evaluations = 2

        def forward(self, objective):
            z = torch.cat([objective.q.sample((1,)), objective.q.sample((1,))])
            f = objective.f(z, objective.frozen_q())
            signal = (f - f.flip(0)).detach()
            return (f + signal * objective.q.log_prob(z)).mean(0) - objective.kl()

    problem = problem_of("bernoulli")
    twice, rloo = (enumerate_moments(each.eval(), problem) for each in (Twice(), estimators.create("rloo")))
    assert twice.tuples == rloo.tuples == 64
    for group in rloo.mean:
        torch.testing.assert_close(twice.mean[group], rloo.mean[group], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(twice.variance[group], rloo.variance[group], rtol=1e-12, atol=1e-12)


def test_other_noise_is_not_enumerated():
    assert enumerate_moments(Rebar().eval(), problem_of("bernoulli")) is None


def test_too_many_tuples_are_not_enumerated():
    assert enumerate_moments(estimators.create("rloo[num_samples=5]").eval(), problem_of("categorical")) is None
    assert enumerate_moments(estimators.create("rloo").eval(), problem_of("normal")) is None  # 48^4 nodes


def test_no_noise_at_all_is_one_tuple():
    class Exact(Correct):
        supports = frozenset({"categorical"})

        def forward(self, objective):
            return objective.exact()

    exact = enumerate_moments(Exact().eval(), problem_of("categorical"))
    assert exact.tuples == 1
    assert compare_mean(exact.mean, problem_of("categorical"), "").outcome == "passed"


def test_a_shrunken_gradient_is_seen_to_the_last_digit():
    problem = problem_of("bernoulli")
    exact = enumerate_moments(IncludesItself().eval(), problem)
    result = compare_mean(exact.mean, problem, f"{exact.tuples} tuples")
    assert result.outcome == "failed"
    torch.testing.assert_close(exact.mean["weights"], problem.exact_gradient()["weights"], rtol=1e-10, atol=1e-12)


def test_the_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    enumerate_moments(estimators.create("reinforce").eval(), problem_of("normal"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_draw_from_another_law_counts_by_that_law():
    """Importance sampling from flatter bits is right; without its weights it is not."""

    class Unweighted(Tempered):
        def forward(self, objective):
            z = objective.build_q({"logits": 0.7 * objective.params["logits"].detach()}).sample((2,))
            f = objective.f(z, objective.frozen_q())
            return (f + f.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()

    problem = problem_of("bernoulli")
    for estimator, outcome in ((Tempered(), "passed"), (Unweighted(), "failed")):
        exact = enumerate_moments(estimator.eval(), problem)
        assert compare_mean(exact.mean, problem, "").outcome == outcome
