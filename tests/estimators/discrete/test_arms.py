"""ARMS: its copulas have the marginals and the pair probability that its factor takes for granted."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.discrete_objectives import BITS, objective_of, prepared, probability, square
from scipy import stats
from scipy.integrate import quad

from estbench import estimators
from estbench.certify import run_bias_tests
from estbench.errors import EstbenchError
from estbench.estimators.discrete.arms import COPULAS, gaussian_factor

DRAWS = 400_000
# Any of 20 z-scores of true hypotheses exceeds this with probability 1e-4 at most.
LARGEST_Z = float(stats.norm.isf(1e-4 / 40))


def pair_probability(factor, m, samples):
    """P(both) from the factor m (1 - m) / (m - P(both))."""
    value = factor(torch.tensor(m, dtype=torch.float64), samples)
    return m - m * (1 - m) / float(value)


@pytest.mark.slow_after(6)
@pytest.mark.parametrize("copula", COPULAS)
@pytest.mark.parametrize("samples", [3, 4, 10])
@pytest.mark.parametrize("m", [0.05, 0.3, 0.5])
def test_uniforms_are_uniform_and_pairs_have_the_stated_probability(copula, samples, m):
    uniforms, factor = COPULAS[copula]
    torch.manual_seed(0)
    below = uniforms(torch.empty(samples, DRAWS, dtype=torch.float64)) < m
    both = pair_probability(factor, m, samples)
    for count, chance in ((below[0].sum(), m), (below[-1].sum(), m), ((below[0] & below[-1]).sum(), both)):
        if chance < 1e-15:
            assert count == 0
        else:
            assert abs(float(count) - DRAWS * chance) < LARGEST_Z * math.sqrt(DRAWS * chance * (1 - chance))


@pytest.mark.parametrize("m", [1e-12, 1e-3, 0.2, 0.5])
@pytest.mark.parametrize("samples", [3, 4, 8])
def test_the_gaussian_pair_probability_is_the_bivariate_normal_s(m, samples):
    """By integrating the density of one normal against the conditional probability of the other."""
    correlation, h = -1 / (samples - 1), float(stats.norm.ppf(m))

    def density(x):
        return stats.norm.pdf(x) * stats.norm.cdf((h - correlation * x) / math.sqrt(1 - correlation**2))

    expected, _ = quad(density, -12, h, epsabs=0, epsrel=1e-11, limit=200)
    found = m * (1 - m) / float(gaussian_factor(torch.tensor(m, dtype=torch.float64), samples))
    assert found == pytest.approx(m - expected, rel=1e-9)


def test_two_samples_are_disarm():
    """On one coin the estimate takes the same values, each with the same probability."""
    theta, logits = 0.3, probability(0.3).expand(DRAWS, 1, 1).clone().requires_grad_()
    objective = objective_of(logits, square(0.45))
    values = []
    for seed, variant in enumerate(("arms[num_samples=2]", "disarm")):
        torch.manual_seed(seed)
        (found,) = torch.autograd.grad(prepared(variant, objective)(objective).sum(), [logits])
        values.append(found.flatten())
    for found in values:
        distinct = torch.unique(found.round(decimals=12))
        expected = torch.tensor([0.0, 0.5 * 0.1 * (1 - theta)], dtype=torch.float64)
        torch.testing.assert_close(distinct, expected, rtol=0, atol=1e-12)
        share = float((found > 1e-9).double().mean())
        assert abs(share - 2 * theta) < LARGEST_Z * math.sqrt(2 * theta * (1 - 2 * theta) / DRAWS)


@pytest.mark.parametrize(
    "variant", ["arms[num_samples=3]", "arms[num_samples=6]", "arms[num_samples=3,copula=gaussian]"]
)
def test_unbiased_for_any_number_of_samples(variant):
    tests = [test for problem in BITS for test in run_bias_tests(estimators.create(variant), problem, 100)]
    assert all(test.unbiased for test in tests), max(tests, key=lambda test: test.z)
    assert max(test.detectable for test in tests) <= 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copula", COPULAS)
def test_nearly_certain_bits_give_finite_gradients(copula, dtype):
    logits = torch.tensor([[-200.0, -30.0, 0.0, 30.0, 200.0]], dtype=dtype).requires_grad_()
    objective = objective_of(logits, square(0.45))
    (found,) = torch.autograd.grad(prepared(f"arms[copula={copula}]", objective)(objective).sum(), [logits])
    assert found.isfinite().all()
    assert found[0, [0, 4]].abs().max() < 1e-30


def test_a_copula_that_makes_no_difference_is_refused():
    with pytest.raises(EstbenchError, match="'copula' has no effect with num_samples=2; drop it"):
        estimators.create("arms[num_samples=2,copula=gaussian]")
