"""``eight_schools`` against draws from its prior, and against its factors written out again."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.z_scores import largest_z
from torch.distributions import HalfCauchy, Normal

from estbench import problems

DRAWS = 200_000
BOTH = ("noncentered", "centered")


def made(parametrization):
    problem = problems.create(f"eight_schools[parametrization={parametrization}]").double()
    return problem, problem(torch.zeros(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("parametrization", BOTH)
def test_the_moments_are_those_of_weighted_draws_from_the_prior(parametrization):
    """z ~ p(z), weighted by p(y|z): errors by the delta method, of 10 means, 10 mean squares and the evidence."""
    problem, objective = made(parametrization)
    reference = problem.posterior_moments()
    torch.manual_seed(6)
    z = objective.prior.sample((DRAWS,))
    log_weights = objective._log_likelihood(z)[:, 0]
    z = z[:, 0]
    weights = (log_weights - reference.log_evidence).exp()  # of mean 1
    error = weights.std() / math.sqrt(DRAWS)
    assert abs(weights.mean() - 1) < largest_z(42) * error
    mean, sd = (torch.from_numpy(each) for each in (reference.mean, reference.sd))
    standard = (z - mean) / sd
    for power, expected in ((1, 0.0), (2, 1.0)):
        deviations = weights[:, None] * (standard**power - expected)
        scores = deviations.mean(0) / (deviations.std(0) / math.sqrt(DRAWS))
        assert scores.abs().max() < largest_z(42)
    assert weights.sum() ** 2 / weights.square().sum() > 0.1 * DRAWS  # or the draws would say little


def test_both_parametrizations_are_one_posterior():
    (noncentered, one), (centered, other) = made("noncentered"), made("centered")
    first, second = noncentered.posterior_moments(), centered.posterior_moments()
    assert first.log_evidence == second.log_evidence
    assert first.mean[:2] == pytest.approx(second.mean[:2])
    torch.manual_seed(7)
    z = one.prior.sample((50,))
    theta = z[..., :1] + z[..., 1:2].exp() * z[..., 2:]
    moved = torch.cat([z[..., :2], theta], -1)
    # p(y, mu, log tau, eta) = p(y, mu, log tau, theta) |d theta / d eta|, and the last is tau^8.
    jacobian = 8 * z[..., 1]
    torch.testing.assert_close(
        one._log_likelihood(z) + one.prior.log_prob(z),
        other._log_likelihood(moved) + other.prior.log_prob(moved) + jacobian,
    )


def test_the_density_is_the_model_of_torchs_distributions():
    _, objective = made("centered")
    torch.manual_seed(8)
    z = objective.prior.sample((20,))
    mu, tau, theta = z[..., 0], z[..., 1].exp(), z[..., 2:]
    expected = Normal(0.0, 5.0).log_prob(mu) + HalfCauchy(torch.tensor(5.0, dtype=z.dtype)).log_prob(tau) + z[..., 1]
    expected = expected + Normal(mu[..., None], tau[..., None]).log_prob(theta).sum(-1)
    torch.testing.assert_close(objective.prior.log_prob(z), expected)
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=z.dtype)
    s = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=z.dtype)
    torch.testing.assert_close(objective._log_likelihood(z), Normal(theta, s).log_prob(y).sum(-1))


def test_a_finer_grid_and_a_wider_one_change_nothing(monkeypatch):
    import numpy as np

    from estbench.problems import eight_schools

    coarse = eight_schools.posterior_moments(centered=True)
    monkeypatch.setattr(eight_schools, "LOG_TAU", np.arange(-40.0, 20.0, 0.002))
    fine = eight_schools.posterior_moments(centered=True)
    assert fine.log_evidence == pytest.approx(coarse.log_evidence, abs=1e-10)
    assert fine.mean == pytest.approx(coarse.mean, rel=1e-9)
    assert fine.sd == pytest.approx(coarse.sd, rel=1e-9)


def test_bounds_of_the_two_never_stand_in_one_table():
    cls = problems.PROBLEMS.get("eight_schools")
    cards = {cls.card_of(cls.Options(parametrization=each)) for each in BOTH}
    assert len(cards) == 2
