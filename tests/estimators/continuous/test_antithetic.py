"""Antithetic pairs: what is odd cancels, under any estimator of normal latents."""

from __future__ import annotations

import pytest
import torch
from oracles.gaussian_toy import columns, make_leaves, make_objective, sample_toy
from oracles.z_scores import largest_z, z_of_variance

from estbench import estimators
from estbench.errors import EstbenchError

N = 100_000


def test_a_pathwise_pair_has_no_variance_for_the_mean_of_a_quadratic():
    """2 (d + s e) averages to 2 d; for log s the part s^2 e^2 stays, of variance 8 s^4."""
    m, s, k = columns()
    found = sample_toy("antithetic", N)
    torch.testing.assert_close(found["loc"], (2 * (m - k))[:, None].expand(N, -1, 1), rtol=0, atol=1e-12)
    z = z_of_variance(found["log_scale"][..., 0], 8 * s**4)
    assert float(z.abs().max()) < largest_z(3)


def test_a_score_function_pair_loses_the_even_part_of_f():
    """8 d^2 for the mean. For s, x = e^2: var[(d^2 + s^2 x)(x - 1) / s] = 2 d^4 / s^2 + 20 d^2 + 74 s^2."""
    m, s, k = columns()
    d = m - k
    found = sample_toy("antithetic[base=reinforce]", N)
    expected = {"loc": 8 * d**2, "log_scale": s**2 * (2 * d**4 / s**2 + 20 * d**2 + 74 * s**2)}
    for name, variance in expected.items():
        z = z_of_variance(found[name][..., 0], variance)
        assert float(z.abs().max()) < largest_z(6)


def test_the_two_samples_are_mirror_images():
    estimator = estimators.create("antithetic[base=rloo]")
    parts = make_leaves(5, latents=2)
    seen = []
    problem = make_objective(parts)
    problem._log_likelihood = lambda z: seen.append(z) or z.sum(-1)
    estimator(problem)
    (z,) = seen
    assert z.shape == (2, 2, 5, 3, 2)  # samples, copies, replicates, examples, latents
    torch.testing.assert_close(z[:, 0] + z[:, 1], 2 * parts["loc"].expand(2, -1, -1, -1).detach())
    assert len(z[:, 0].unique()) == z[:, 0].numel()


@pytest.mark.parametrize(
    ("variant", "evaluations", "unbiased", "differentiable"),
    [
        ("antithetic", 2, True, True),
        ('antithetic[base="rloo[num_samples=3]"]', 6, True, False),
        ('antithetic[base="reinforce[baseline=optimal]"]', 22, True, False),
        ("antithetic[base=detached]", 2, False, False),
        ("rqmc[num_points=4]", 4, True, True),
        ("rqmc[num_points=4,base=rloo]", 8, True, False),
    ],
)
def test_the_facts_are_the_base_s(variant, evaluations, unbiased, differentiable):
    estimator = estimators.create(variant)
    assert estimator.evaluations == evaluations
    assert estimator.facts()["unbiased"] is unbiased
    assert estimator.facts()["needs_differentiable_f"] is differentiable
    problem = make_objective(make_leaves(4))
    estimator(problem)
    assert problem.evaluations == evaluations * 4 * 3


def test_a_moving_average_below_takes_in_a_step_once_and_after_its_use():
    estimator = estimators.create('antithetic[base="reinforce[baseline=ema,decay=0.5]"]')
    average = estimator.base.baseline
    parts = make_leaves(4)

    def gradient(training):
        torch.manual_seed(1)
        surrogate = estimator.train(training)(make_objective(parts))
        return torch.autograd.grad(surrogate.sum(), parts["loc"])[0]

    gradient(training=True)
    assert float(average.weight) == 0.5
    held = average.mean.clone()
    frozen, learning = gradient(training=False), gradient(training=True)
    assert torch.equal(frozen, learning)
    assert not torch.equal(held, average.mean)


def test_a_base_is_written_in_one_way_only():
    assert estimators.create('antithetic[base="reinforce[num_samples=1]"]').options.base == "reinforce"


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("antithetic[base=repram]", "did you mean 'reparam'"),
        ("antithetic[base=implicit]", "'implicit' does not estimate the ELBO of normal latents; choose another base"),
        ('antithetic[base="reinforce[num_samples=0]"]', "num_samples"),
    ],
)
def test_a_base_that_cannot_be_is_refused(variant, said):
    with pytest.raises(EstbenchError, match=said):
        estimators.create(variant)


def test_a_base_with_noise_of_its_own_says_that_there_is_nothing_to_couple():
    estimator = estimators.create("antithetic[base=measure-valued]")
    assert estimator.evaluations == "2 (D + 1 to 4D)"
    assert estimator.count_evaluations(make_objective(make_leaves(latents=3))) == 2 * 4 * 3
    with pytest.raises(EstbenchError, match="no draw from q to couple; choose another"):
        estimator(make_objective(make_leaves()))
