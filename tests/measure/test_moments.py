"""The moments' short cuts give what the plain definitions give, and their intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from estbench.measure import Moments, moments_of
from estbench.measure.moments import between_examples, summarise

SHAPES = [(3, 1), (4, 7), (20, 3), (7, 30)]


def draws(replicates, size, shift=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((replicates, size)) * 1.7 + shift)


@pytest.mark.parametrize("shift", [0.0, 0.5, 100.0])
@pytest.mark.parametrize(("replicates", "size"), SHAPES)
def test_moments_are_those_of_the_covariance_the_pairs_and_the_explicit_jackknife(
    replicates, size, shift, brute_force_moments
):
    gradients = draws(replicates, size, shift)
    found = moments_of(gradients.unbind, replicates)
    for statistic, expected in brute_force_moments(gradients).items():
        assert found[statistic][:3] == pytest.approx(expected, rel=1e-10, abs=1e-10), statistic
        assert found[statistic].n == replicates


def test_replicates_drawn_again_give_what_stored_ones_give():
    gradients = draws(9, 4)
    calls = []

    def again():
        calls.append(1)
        return (gradient.clone() for gradient in gradients)

    assert moments_of(again, 9) == moments_of(gradients.unbind, 9)
    assert len(calls) == 2


def test_single_precision_loses_no_more_than_its_own_rounding(brute_force_moments):
    """A mean that is 1,000 times the noise: the variance is that of the deviations, not a difference of squares."""
    gradients = (draws(50, 20, shift=0.0) + 1700.0).float()
    found = moments_of(gradients.unbind, 50)
    for statistic, expected in brute_force_moments(gradients).items():
        # Rounding the mean to single precision moves it by up to 6e-5, 4e-5 of the noise.
        assert found[statistic][:3] == pytest.approx(expected, rel=1e-6), statistic


def test_no_noise_has_no_variance_and_no_signal_to_noise_ratio():
    gradients = torch.full((5, 3), 2.0, dtype=torch.float64)
    found = moments_of(gradients.unbind, 5)
    assert found["variance"][:3] == (0.0, 0.0, 0.0)
    assert found["mean_norm2"][:3] == (12.0, 12.0, 12.0)
    assert all(math.isnan(part) for part in found["snr"][:3])


def test_no_gradient_at_all_is_zero():
    found = moments_of(torch.zeros(4, 3).unbind, 4)
    assert found["variance"][:3] == found["mean_norm2"][:3] == (0.0, 0.0, 0.0)
    assert all(math.isnan(part) for part in found["snr"][:3])


def test_one_replicate_that_differs_has_a_variance_without_an_interval():
    """Leaving it out leaves no variance, and zero has no logarithm."""
    gradients = torch.zeros(5, 2, dtype=torch.float64)
    gradients[3] = 1.0
    found = moments_of(gradients.unbind, 5)
    assert found["variance"].value == pytest.approx(0.4, rel=1e-12)
    assert math.isnan(found["variance"].low)
    assert math.isnan(found["variance"].high)
    assert all(math.isnan(part) for part in found["snr"][:3])


def test_a_signal_below_the_noise_may_be_negative_and_its_ratio_is_zero():
    """The unbiased squared norm of a mean of zero is negative half of the time; a plug-in never is."""
    gradients = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    found = moments_of(gradients.unbind, 4)
    assert found["mean_norm2"].value == pytest.approx(-1 / 3)
    assert found["snr"].value == 0.0


def test_summarise_takes_the_three_numbers_that_suffice(brute_force_moments):
    gradients = draws(6, 5).numpy()
    mean = gradients.mean(0)
    centred = gradients - mean
    found = summarise(float(mean @ mean), (centred**2).sum(1), centred @ mean)
    for statistic, expected in brute_force_moments(gradients).items():
        assert found[statistic][:3] == pytest.approx(expected, rel=1e-10), statistic


def test_the_squared_norm_of_the_mean_is_unbiased(largest_z):
    """4,000 sets of 5 replicates in 3 dimensions; the plug-in |gbar|^2 is off by variance / R = 0.6, 40 errors."""
    rng = np.random.default_rng(1)
    mean = np.array([0.3, -0.2, 0.0])
    found = np.array(
        [
            moments_of(torch.from_numpy(rng.standard_normal((5, 3)) + mean).unbind, 5)["mean_norm2"].value
            for _ in range(4000)
        ]
    )
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - mean @ mean) / error < largest_z(1)
    assert 0.6 / error > 35


def brute_force_between(gradients):
    """One-way analysis of variance with loops, and its explicit jackknife over examples."""

    def estimate(data):
        replicates, examples = data.shape[:2]
        means = [data[:, b].mean(0) for b in range(examples)]
        grand = sum(means) / examples
        between = sum(float((m - grand) @ (m - grand)) for m in means) / (examples - 1)
        within = (
            sum(float(np.trace(np.atleast_2d(np.cov(data[:, b], rowvar=False)))) for b in range(examples)) / examples
        )
        return (between - within / replicates) / gradients.shape[1]

    n = gradients.shape[1]
    left = np.array([estimate(np.delete(gradients, b, axis=1)) for b in range(n)])
    return estimate(gradients), left


@pytest.mark.parametrize(("replicates", "examples", "size"), [(3, 3, 1), (5, 4, 2), (2, 10, 3)])
def test_between_examples_is_the_analysis_of_variance(replicates, examples, size):
    rng = np.random.default_rng(2)
    gradients = rng.standard_normal((1, examples, size)) + rng.standard_normal((replicates, examples, size))
    value, left = brute_force_between(gradients)
    found = between_examples(torch.from_numpy(gradients))
    spread = np.sum((left - left.mean()) ** 2) * (examples - 1) / examples
    assert found.value == pytest.approx(value, rel=1e-10)
    assert found.n == examples
    half = stats.t.ppf(0.975, examples - 1) * math.sqrt(spread)
    assert (found.low, found.high) == pytest.approx((value - half, value + half), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("between", "within"), [(1.0, 1.0), (0.0, 1.0), (0.2, 9.0), (2.0, 0.0)])
def test_between_examples_finds_the_variance_of_a_random_effects_model(between, within, largest_z):
    """4,000 simulations of g_rb = m_b + e_rb, B = 8, R = 4, D = 2; unbiased for D * between / B."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = np.array(
        [
            between_examples(math.sqrt(between) * normal(1, 8, 2) + math.sqrt(within) * normal(4, 8, 2)).value
            for _ in range(4000)
        ]
    )
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - 2 * between / 8) / error < largest_z(4)


def test_the_table_has_the_columns_of_a_record():
    row = {
        "space": "params",
        "group": "loc",
        "statistic": "variance",
        "value": 1.0,
        "low": 0.5,
        "high": 2.0,
        "replicates": 9,
    }
    moments = Moments((row,))
    assert list(moments.table.columns) == ["space", "group", "statistic", "value", "low", "high", "replicates"]
    assert moments.table.to_dict("records") == [row]
    assert moments.value("params", "loc", "variance") == 1.0
    with pytest.raises(KeyError):
        moments.value("params", "loc", "bias2")


def test_no_replicates_are_an_error():
    with pytest.raises(ValueError, match="no replicates"):
        moments_of(list, 0)


@pytest.mark.parametrize(("replicates", "size"), [(20, 5), (100, 1), (100, 20)])
def test_the_interval_of_the_variance_covers_for_gaussian_gradients(replicates, size):
    """4,000 experiments with known trace: a nominal 95 % covers 92 to 98 % (its own error is 0.35 %)."""
    rng = np.random.default_rng(4)
    scales = np.linspace(0.5, 2, size)
    true = float((scales**2).sum())
    covered = 0
    for _ in range(4000):
        gradients = rng.standard_normal((replicates, size)) * scales + 1.0
        centred = gradients - gradients.mean(0)
        interval = summarise(0.0, (centred**2).sum(1), np.zeros(replicates))["variance"]
        covered += interval.low <= true <= interval.high
    assert 0.92 <= covered / 4000 <= 0.98
