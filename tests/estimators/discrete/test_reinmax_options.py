"""ReinMax with a control variate from other samples, and with Gumbel noise in its Jacobian."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, named

from estbench import estimators
from estbench.certify.checks.exact_mean import enumerate_moments
from estbench.certify.sampling import sample_gradients
from estbench.errors import EstbenchError
from estbench.estimators._noise import gumbel_perturbed_given_argmax
from estbench.estimators._surrogates import softmax_jacobian
from estbench.estimators.discrete.gumbel_softmax import tangent_at
from estbench.estimators.discrete.reinmax import mean_tangent

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]


def moments(options, problem):
    return enumerate_moments(estimators.create(f"reinmax[{options}]").eval(), problem)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_control_variate_keeps_the_mean(problem, temperature):
    """Sums over all pairs of samples: the decoder's estimate is the same in every respect."""
    plain, controlled = (
        moments(f"temperature={temperature},num_samples=2,control_variate={each}", problem)
        for each in ("false", "true")
    )
    single = moments(f"temperature={temperature}", problem)
    for group, mean in controlled.mean.items():
        torch.testing.assert_close(mean, plain.mean[group], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(plain.mean[group], single.mean[group], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(plain.variance[group], single.variance[group] / 2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(controlled.variance["weights"], plain.variance["weights"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("problem", "share"), [(EXPONENTIAL[1], 0.31), (DECODER[1], 0.5)])
def test_the_control_variate_lowers_the_variance_where_f_is_nearly_linear(problem, share):
    """Exact variances; with bits and a strong curvature it may raise them (1.17 times on the quadratic problem)."""
    plain, controlled = (
        float(moments(f"num_samples=2{each}", problem).variance["logits"].sum())
        for each in ("", ",control_variate=true")
    )
    assert controlled < share * plain


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_no_noise_is_left_where_f_is_linear(problem):
    linear = dataclasses.replace(problem, integrand=lambda z, w: (w * z).sum(-1))
    found = moments("num_samples=2,control_variate=true", linear)
    exact = linear.exact_gradient()["logits"]
    torch.testing.assert_close(found.mean["logits"], exact, rtol=1e-10, atol=1e-12)
    assert float(found.variance["logits"].sum()) < 1e-20
    assert float(moments("num_samples=2", linear).variance["logits"].sum()) > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_mean_jacobian_is_the_sum_over_the_categories(temperature):
    logits = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, tempered = logits.softmax(-1), (logits / temperature).softmax(-1)
    x = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def transform(hard):
        return 2 * softmax_jacobian((tempered + hard) / 2, x) - softmax_jacobian(p, x) / 2

    expected = sum(p[k] * transform(torch.eye(4, dtype=torch.float64)[k]) for k in range(4))
    torch.testing.assert_close(mean_tangent(p, tempered, x), expected, rtol=1e-12, atol=1e-14)
    if temperature == 1:
        torch.testing.assert_close(expected, softmax_jacobian(p, x), rtol=1e-12, atol=1e-14)


def jacobian_at(r, hard, temperature, draws):
    """Draws of J(y) / t at the noise of r given the sample, (draws, C, C)."""
    noisy = gumbel_perturbed_given_argmax(r.log(), hard.expand(draws, *hard.shape))
    x = torch.eye(len(r), dtype=r.dtype)
    return torch.stack([tangent_at(noisy, each, temperature) for each in x], -1)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("category", [0, 1, 2])
def test_at_low_temperatures_a_gumbel_jacobian_is_half_the_sum_of_covariance_and_score(category, largest_z):
    """(J(r) + (z - r) (z - r)') / 2, from 400,000 draws at t = 0.02, with an allowance for the bias of that t."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    hard = torch.eye(3, dtype=torch.float64)[category]
    r = (p + hard) / 2
    torch.manual_seed(category)
    draws = jacobian_at(r, hard, 0.02, 400_000)
    expected = (r.diag() - torch.outer(r, r) + torch.outer(hard - r, hard - r)) / 2
    error = draws.std(0) / len(draws) ** 0.5
    assert float(error.max()) < 0.003
    assert ((draws.mean(0) - expected).abs() < largest_z(3 * 9) * error + 0.003).all()


def test_with_draws_the_mean_of_a_linear_f_goes_to_half_of_the_gradient():
    """The sum over categories of the limit above."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    total = torch.zeros(3, 3, dtype=torch.float64)
    for category in range(3):
        hard = torch.eye(3, dtype=torch.float64)[category]
        r = (p + hard) / 2
        total += p[category] * (r.diag() - torch.outer(r, r) + torch.outer(hard - r, hard - r))
    jacobian = p.diag() - torch.outer(p, p)
    torch.testing.assert_close(total - jacobian / 2, jacobian / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("problem", **named(EXPONENTIAL))
def test_more_draws_keep_the_mean_and_lower_the_variance(problem):
    """z-scores per coordinate, each with a false alarm of 1e-6."""
    torch.manual_seed(0)
    few, many = (
        sample_gradients(estimators.create(f"reinmax[draws={draws}]"), problem, 6_000)["logits"].flatten(1)
        for draws in (1, 20)
    )
    error = ((few.var(0) + many.var(0)) / len(few)).sqrt()
    assert ((few.mean(0) - many.mean(0)).abs() < 4.9 * error).all()
    assert float(many.var(0).sum()) < 0.9 * float(few.var(0).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("control_variate=true", "'control_variate' has no effect with num_samples=1"),
        ("control_variate=true,num_samples=2,draws=3", "'control_variate' has no effect with draws=3"),
        ("gumbel_temperature=0.3", "'gumbel_temperature' has no effect with draws=0"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(EstbenchError, match=message):
        estimators.create(f"reinmax[{options}]")


def test_what_a_sample_costs():
    assert estimators.create("reinmax[num_samples=3]").evaluations == 3
    assert estimators.create("reinmax[draws=30]").evaluations == 1
    assert estimators.create("reinmax[draws=30]").facts()["reference"] == "wang2026"
