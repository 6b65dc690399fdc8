"""The expectation over an estimator's own noise: right where it is given, and not given where it is not known."""

from __future__ import annotations

import pytest
import torch
from kinds import Tempered
from mutants import IncludesItself, Rebar, Rightful

from estbench import estimators
from estbench.certify import settings_for
from estbench.certify.checks.enumeration import compare, expectation
from estbench.randomness import seeded


def setting_of(latents, name="decoder"):
    (found,) = [setting for setting in settings_for({latents}, {"elbo"}) if name in setting.name]
    return found


@pytest.mark.parametrize("latents", ["bernoulli", "categorical", "normal"])
def test_the_moments_are_those_of_many_draws(latents):
    """n = 200,000; 5 standard errors for each of at most 30 coordinates: a false alarm once in 50,000."""
    from estbench.certify.sampling import Moments, draw

    setting, estimator = setting_of(latents), estimators.create("reinforce").eval()
    found = expectation(estimator, setting)
    moments = Moments()
    with seeded(3, torch.device("cpu")):
        draw(moments, estimator, setting, 200_000)
    for group, error in moments.error.items():
        assert ((moments.mean[group] - found.mean[group]).abs() <= 5 * error + 1e-12).all()
        # A variance's error is at most that of a kurtosis of 50 or so.
        off = (moments.variance[group] - found.variance[group]).abs()
        assert (off <= 5 * (50 / 200_000) ** 0.5 * found.variance[group] + 1e-12).all()


def test_several_calls_of_sample_are_one_tuple():
    class Twice(Rightful):
        evaluations = 2

        def forward(self, objective):
            z = torch.cat([objective.q.sample((1,)), objective.q.sample((1,))])
            f = objective.f(z, objective.frozen_q())
            signal = (f - f.flip(0)).detach()
            return (f + signal * objective.q.log_prob(z)).mean(0) - objective.kl()

    setting = setting_of("bernoulli")
    twice, rloo = (expectation(each.eval(), setting) for each in (Twice(), estimators.create("rloo")))
    assert twice.tuples == rloo.tuples == 64
    for group in rloo.mean:
        torch.testing.assert_close(twice.mean[group], rloo.mean[group], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(twice.variance[group], rloo.variance[group], rtol=1e-12, atol=1e-12)


def test_other_noise_is_not_enumerated():
    assert expectation(Rebar().eval(), setting_of("bernoulli")) is None


def test_too_many_tuples_are_not_enumerated():
    assert expectation(estimators.create("rloo[num_samples=5]").eval(), setting_of("categorical")) is None
    assert expectation(estimators.create("rloo").eval(), setting_of("normal")) is None  # 48^4 nodes


def test_no_noise_at_all_is_one_tuple():
    class Exact(Rightful):
        supports = frozenset({"categorical"})

        def forward(self, objective):
            return objective.exact()

    found = expectation(Exact().eval(), setting_of("categorical"))
    assert found.tuples == 1
    assert compare(found.mean, setting_of("categorical"), "").outcome == "passed"


def test_a_shrunken_gradient_is_seen_to_the_last_digit():
    setting = setting_of("bernoulli")
    found = expectation(IncludesItself().eval(), setting)
    said = compare(found.mean, setting, f"{found.tuples} tuples")
    assert said.outcome == "failed"
    torch.testing.assert_close(found.mean["weights"], setting.exact()["weights"], rtol=1e-10, atol=1e-12)


def test_the_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expectation(estimators.create("reinforce").eval(), setting_of("normal"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_draw_from_another_law_counts_by_that_law():
    """Importance sampling from flatter bits is right; without its weights it is not."""

    class Unweighted(Tempered):
        def forward(self, objective):
            z = objective.q_of({"logits": 0.7 * objective.params["logits"].detach()}).sample((2,))
            f = objective.f(z, objective.frozen_q())
            return (f + f.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()

    setting = setting_of("bernoulli")
    for estimator, outcome in ((Tempered(), "passed"), (Unweighted(), "failed")):
        found = expectation(estimator.eval(), setting)
        assert compare(found.mean, setting, "").outcome == outcome
