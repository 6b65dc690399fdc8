"""The z-test has the power that it states, and seldom sees what is not there."""

from __future__ import annotations

import pytest
import torch
from mutants.base import Correct
from mutants.defects import IncludesItself

from estbench.certify import EstimatorUnderTest, run_bias_tests
from estbench.certify.checks.unbiasedness import MIN_DETECTABLE_BIAS, check_unbiased
from estbench.certify.problems import small_problems_for
from estbench.certify.problems.base import PRIOR, WEIGHTS
from estbench.estimators.score_function import score_function_surrogate

(QUADRATIC,) = [each for each in small_problems_for({"bernoulli"}, {"elbo"}) if "quadratic" in each.name]
COORDINATES = 100


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Tensors this small are slower on two."""


class Shifted(Correct):
    """Off by a given share of the gradient's norm, in one coordinate of the first example."""

    share = 0.0

    def forward(self, objective):
        logits = objective.params["logits"]
        shift = torch.zeros_like(logits[..., 0])
        shift[..., 0] = self.share * QUADRATIC.gradient_norm("logits")
        return super().forward(objective) + shift * (logits[..., 0] - logits[..., 0].detach())


def test_draws_are_added_until_the_power_is_reached():
    for test in run_bias_tests(Correct(), QUADRATIC, COORDINATES):
        assert test.unbiased
        assert test.detectable <= MIN_DETECTABLE_BIAS
        assert test.replicates >= 10_000


def test_a_bias_as_small_as_is_stated_is_seen():
    """The stated one is caught 99 times in 100: 20 times of 20 here, with probability 0.82; 17 with 0.9999."""
    estimator = Shifted()
    estimator.share = MIN_DETECTABLE_BIAS
    seen = 0
    for seed in range(20):
        (test,) = [test for test in run_bias_tests(estimator, QUADRATIC, COORDINATES, seed) if test.group == "logits"]
        seen += not test.unbiased
    assert seen >= 17


@pytest.mark.slow
def test_no_bias_is_seen_where_there_is_none():
    """Each of 40 times, with a false-alarm rate of 40 x 12 / 100 x 1e-4 = 5e-4 for all of them."""
    assert all(test.unbiased for seed in range(40) for test in run_bias_tests(Correct(), QUADRATIC, COORDINATES, seed))


def test_opposite_biases_do_not_cancel():
    class Opposite(Correct):
        def forward(self, objective):
            logits = objective.params["logits"]
            push = 0.1 * QUADRATIC.gradient_norm("logits") * (logits[..., 0] - logits[..., 1])
            return super().forward(objective) + push - push.detach()

    assert not all(test.unbiased for test in run_bias_tests(Opposite(), QUADRATIC, COORDINATES))


def test_a_failure_says_where_and_what():
    (test,) = [test for test in run_bias_tests(IncludesItself(), QUADRATIC, COORDINATES) if test.group == "logits"]
    example, latent = test.coordinate
    assert test.expected == float(QUADRATIC.exact_gradient()["logits"][example, latent])
    assert test.bias == pytest.approx(0.25, abs=0.15)
    assert test.message.startswith(f"logits[{example},{latent}]: expected {test.expected:.6g}, measured")


def test_too_little_power_is_inconclusive_and_never_a_pass(monkeypatch):
    class Noisy(Correct):
        def forward(self, objective):
            z, f = self.draw(objective)
            return score_function_surrogate(objective, z, f, f + 1000)

    monkeypatch.setattr("estbench.certify.checks.unbiasedness.run_bias_tests.__defaults__", (0, 20_000))
    result = check_unbiased(EstimatorUnderTest("noisy", Noisy), QUADRATIC)
    assert result.outcome == "inconclusive"
    assert "could go unseen" in result.message


def test_a_gradient_without_noise_is_compared_to_rounding():
    class Exact(Correct):
        evaluations = 8

        def forward(self, objective):
            return objective.exact()

    tests = run_bias_tests(Exact(), QUADRATIC, COORDINATES)
    assert {test.group for test in tests} == {"logits", WEIGHTS, f"{PRIOR}logits"}
    assert all(test.unbiased for test in tests)
