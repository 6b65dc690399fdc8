"""The moments' short cuts give what the plain definitions give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from estbench.measure import Moments
from estbench.measure.heavy_tails import skewed_mean_interval
from estbench.measure.linear_layers import spread_of
from estbench.measure.moments import (
    BATCHES,
    Examples,
    Tally,
    between_examples,
    centred_squares,
    even_chunks,
    summarise,
)


def tally_of(gradients, sizes):
    """What chunks of these sizes leave of (R, P) gradients."""
    tally = Tally(gradients.shape[1], gradients)
    for chunk in gradients.split(sizes):
        tally.slot.add_(chunk.sum(0))
        tally.add(centred_squares(chunk))
    return tally


def draws(replicates, size, shift=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((replicates, size)) * 1.7 + shift)


@pytest.mark.parametrize(("count", "largest"), [(3, 1), (2, 9), (10, 3), (11, 4), (100, 10), (7, 0), (9, 8)])
def test_chunks_are_even_and_never_of_one(count, largest):
    sizes = even_chunks(count, largest)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    assert max(sizes) <= max(largest, 3)


@pytest.mark.parametrize("shift", [0.0, 0.5, 100.0])
def test_one_chunk_has_the_trace_of_the_covariance(shift):
    gradients = draws(20, 3, shift)
    found = summarise(tally_of(gradients, [20]))
    trace = float(np.trace(np.cov(gradients.numpy(), rowvar=False)))
    pairs = [float(gradients[r] @ gradients[s]) for r in range(20) for s in range(20) if r != s]
    assert found["variance"].value == pytest.approx(trace, rel=1e-10)
    assert found["mean_norm2"].value == pytest.approx(np.mean(pairs), rel=1e-9, abs=1e-9)
    assert found["snr"].value == pytest.approx(math.sqrt(max(0, np.mean(pairs)) / trace), rel=1e-9)
    assert math.isnan(found["mean_norm2"].low)  # one chunk is one batch: nothing to leave out


def test_many_chunks_have_the_mean_of_their_own_variances_and_the_explicit_jackknife():
    """25 chunks of 2 and 3 replicates fall into 10 batches; each batch is left out with loops."""
    gradients = draws(60, 4)
    sizes = [2, 3, 2, 3, 2] * 5
    tally = tally_of(gradients, sizes)
    found = summarise(tally)
    chunks = gradients.split(sizes)
    noise = [n for chunk in chunks for n in (chunk - chunk.mean(0)).square().sum(1) * len(chunk) / (len(chunk) - 1)]
    assert tally.deviations == pytest.approx(np.array(noise), rel=1e-12)
    assert found["variance"][:3] == pytest.approx(skewed_mean_interval(np.array(noise))[:3], rel=1e-12)

    def signal(kept):
        rows = torch.cat([chunks[k] for k in kept])
        parts = [chunks[k] for k in kept]
        own = sum(float((c - c.mean(0)).square().sum()) * len(c) / (len(c) - 1) for c in parts)
        variance = own / len(rows)
        return float(rows.mean(0) @ rows.mean(0)) - variance / len(rows), variance

    value, variance = signal(range(25))
    left = np.array([signal([k for k in range(25) if k % BATCHES != batch]) for batch in range(BATCHES)])

    def half(each):
        return stats.t.ppf(0.975, 9) * math.sqrt(0.9 * np.sum((each - each.mean()) ** 2))

    ends = (value, value - half(left[:, 0]), value + half(left[:, 0]))
    assert found["mean_norm2"][:3] == pytest.approx(ends, rel=1e-9)
    ratio, ratios = value / variance, left[:, 0] / left[:, 1]
    squares = (ratio, ratio - half(ratios), ratio + half(ratios))
    assert found["snr"][:3] == pytest.approx([math.sqrt(max(0, square)) for square in squares], rel=1e-9)


def test_the_variance_is_unbiased_in_chunks_of_two(largest_z):
    """3,000 sets of 20 replicates in 2 dimensions: its mean is the trace, within the error of that mean."""
    rng = np.random.default_rng(8)
    sets = [torch.from_numpy(rng.standard_normal((20, 2)) * [1.0, 2.0] + 3.0) for _ in range(3000)]
    values = np.array([summarise(tally_of(gradients, [2] * 10))["variance"].value for gradients in sets])
    assert abs(values.mean() - 5.0) / (values.std(ddof=1) / math.sqrt(3000)) < largest_z(1)


def test_single_precision_loses_no_more_than_its_own_rounding():
    """A mean that is 1,000 times the noise: the variance is that of the deviations, not a difference of squares."""
    gradients = (draws(50, 20, shift=0.0) + 1700.0).float()
    exact = summarise(tally_of(gradients.double(), [10] * 5))
    found = summarise(tally_of(gradients, [10] * 5))
    assert found["variance"][:3] == pytest.approx(exact["variance"][:3], rel=1e-5)
    assert found["mean_norm2"].value == pytest.approx(exact["mean_norm2"].value, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_noise_has_no_variance_and_no_signal_to_noise_ratio(dtype):
    gradients = torch.full((9, 3), 0.1, dtype=dtype)
    found = summarise(tally_of(gradients, [3, 3, 3]))
    assert found["variance"][:3] == (0.0, 0.0, 0.0)
    assert found["mean_norm2"].value == pytest.approx(0.03)
    assert all(math.isnan(part) for part in found["snr"][:3])


def test_a_signal_below_the_noise_may_be_negative_and_its_ratio_is_zero():
    """The unbiased squared norm of a mean of zero is negative half of the time; a plug-in never is."""
    gradients = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    found = summarise(tally_of(gradients, [4]))
    assert found["mean_norm2"].value == pytest.approx(-1 / 3)
    assert found["snr"].value == 0.0


def test_the_squared_norm_of_the_mean_is_unbiased(largest_z):
    """4,000 sets of 6 replicates in 3 dimensions; the plug-in |gbar|^2 is off by variance / R = 0.5, 30 errors."""
    rng = np.random.default_rng(1)
    mean = np.array([0.3, -0.2, 0.0])
    sets = [torch.from_numpy(rng.standard_normal((6, 3)) + mean) for _ in range(4000)]
    found = np.array([summarise(tally_of(gradients, [2, 2, 2]))["mean_norm2"].value for gradients in sets])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - mean @ mean) / error < largest_z(1)
    assert 0.5 / error > 30


def test_between_examples_is_the_analysis_of_variance_with_its_explicit_jackknife():
    rng = np.random.default_rng(2)
    means = rng.standard_normal((7, 3))

    def share(kept):
        return np.sum((means[kept] - means[kept].mean(0)) ** 2) / (len(kept) - 1) / 7

    everyone = list(range(7))
    left = np.array([share([b for b in everyone if b != out]) for out in everyone])
    half = stats.t.ppf(0.975, 6) * math.sqrt(6 / 7 * np.sum((left - left.mean()) ** 2))
    found = between_examples(torch.from_numpy(means @ means.T))
    expected = (share(everyone), share(everyone) - half, share(everyone) + half)
    assert found[:3] == pytest.approx(expected, rel=1e-10)
    assert found.n == 7


@pytest.mark.parametrize(("between", "within"), [(1.0, 1.0), (0.0, 1.0), (0.2, 9.0), (2.0, 0.0)])
def test_the_data_s_share_finds_the_variance_of_a_random_effects_model(between, within, largest_z):
    """2,000 simulations of g_rb = m_b + e_rb, B = 8, R = 4 in chunks of 2, D = 2; unbiased for D * between / B."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def one():
        gradients = math.sqrt(between) * normal(1, 8, 2) + math.sqrt(within) * normal(4, 8, 2)
        tally = Tally(1, gradients, pooled=False)
        for chunk in gradients.split(2):
            squares, examples = spread_of(chunk, across=True)
            tally.add(squares.sum(1) / 64, examples)
        return summarise(tally)["data_variance"].value

    found = np.array([one() for _ in range(2000)])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - 2 * between / 8) / error < largest_z(4)


def test_sets_of_weights_add_what_they_say_of_the_examples():
    one = Examples(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([[3.0]]))
    other = Examples(torch.tensor([10.0]), torch.tensor([20.0]), None)
    both = one + one
    assert (both.within, both.squares, both.across) == (2, 4, 6)
    assert (one + other).across is None


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
