"""The moments' short cuts give what the plain definitions give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from estbench.measure import Moments
from estbench.measure.gradients._linear import squared_deviations_of
from estbench.measure.gradients.heavy_tails import skewed_mean_interval
from estbench.measure.gradients.moments import (
    BATCHES,
    ExampleMoments,
    MomentAccumulator,
    between_examples,
    chunk_sizes,
    half_differences,
    summarise,
)


def tally_of(gradients, sizes):
    """What chunks of these sizes leave of (R, P) gradients."""
    accumulator = MomentAccumulator(gradients.shape[1], gradients)
    for chunk in gradients.split(sizes):
        accumulator.next_sum.add_(chunk.sum(0))
        accumulator.add(len(chunk), half_differences(chunk))
    return accumulator


def draws(replicates, size, shift=0.5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((replicates, size)) * 1.7 + shift)


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 4, 7, 10, 64, 1000])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 19, 20, 21, 23, 50, 101, 300])
def test_chunks_hold_whole_pairs_and_batches_are_even(count, largest):
    sizes = chunk_sizes(count, largest)
    assert sum(sizes) == count
    assert all(size % 2 == 0 for size in sizes[:-1])
    assert min(sizes) >= 2
    assert max(sizes[:-1], default=2) <= max(largest, 2)
    batches = [sum(size - size % 2 for size in sizes[at::BATCHES]) for at in range(min(BATCHES, len(sizes)))]
    assert len(batches) == min(BATCHES, count // 2)
    assert max(batches) - min(batches) <= 2


def pairs_of(gradients):
    first, second = gradients[: len(gradients) // 2 * 2 : 2], gradients[1::2]
    return ((first - second).square().sum(1) / 2).numpy()


@pytest.mark.parametrize("shift", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("count", [20, 21])
def test_moments_are_those_of_pairs_of_replicates(shift, count):
    gradients = draws(count, 3, shift)
    found = summarise(tally_of(gradients, chunk_sizes(count, 4)))
    variance = pairs_of(gradients).mean()
    mean = gradients.mean(0)
    assert found["variance"].value == pytest.approx(variance, rel=1e-10)
    assert found["mean_norm2"].value == pytest.approx(float(mean @ mean) - variance / count, rel=1e-9, abs=1e-9)
    ratio = max(0.0, float(mean @ mean) / variance - 1 / count)
    assert found["snr"].value == pytest.approx(math.sqrt(ratio), rel=1e-9)


@pytest.mark.parametrize("count", [4, 50, 100, 300])
def test_no_number_depends_on_the_chunks_beyond_rounding(count):
    """Chunks of 2 to all replicates of a batch; the batches hold other replicates, so ends of |mean|^2 may differ."""
    gradients = draws(count, 5)
    found = [summarise(tally_of(gradients, chunk_sizes(count, largest))) for largest in (2, 4, 10, 1000)]
    for other in found[1:]:
        assert other["variance"] == pytest.approx(found[0]["variance"], rel=1e-10, nan_ok=True)
        for statistic in ("mean_norm2", "snr"):
            assert other[statistic].value == pytest.approx(found[0][statistic].value, rel=1e-10)


def test_each_pair_counts_once_whatever_the_chunk():
    """In chunks of two, both deviations from the mean are the same number; there are R / 2 independent ones."""
    accumulator = tally_of(draws(100, 4), chunk_sizes(100, 2))
    assert accumulator.deviations.shape == (50,)
    assert len(np.unique(accumulator.deviations)) == 50
    assert summarise(accumulator)["variance"].n == 50


@pytest.mark.parametrize(("count", "examples", "there"), [(20, 1, False), (20, 3, True), (50, 1, True), (4, 30, False)])
def test_an_interval_of_the_variance_takes_enough_independent_values(count, examples, there):
    gradients = draws(count, 2)
    accumulator = MomentAccumulator(2, gradients, examples=examples)
    for chunk in gradients.split(2):
        accumulator.next_sum.add_(chunk.sum(0))
        accumulator.add(2, half_differences(chunk))
    found = summarise(accumulator)
    assert math.isnan(found["variance"].low) != there
    assert math.isnan(found["snr"].high) != there
    assert found["variance"].value > 0


def test_an_odd_replicate_only_enters_the_mean():
    gradients = draws(7, 2)
    accumulator = tally_of(gradients, chunk_sizes(7, 4))
    assert accumulator.count == 7
    assert accumulator.deviations == pytest.approx(pairs_of(gradients[:6]))
    assert torch.allclose(accumulator.mean, gradients.mean(0))


@pytest.mark.slow
def test_the_variance_is_unbiased_in_chunks_of_two(largest_z):
    """3,000 sets of 20 replicates in 2 dimensions: its mean is the trace, within the error of that mean."""
    rng = np.random.default_rng(8)
    sets = [torch.from_numpy(rng.standard_normal((20, 2)) * [1.0, 2.0] + 3.0) for _ in range(3000)]
    values = np.array([summarise(tally_of(gradients, [2] * 10))["variance"].value for gradients in sets])
    assert abs(values.mean() - 5.0) / (values.std(ddof=1) / math.sqrt(3000)) < largest_z(1)


def test_single_precision_loses_no_more_than_its_own_rounding():
    """A mean that is 1,000 times the noise: the variance is that of the differences, not a difference of squares."""
    gradients = (draws(50, 20, shift=0.0) + 1700.0).float()
    exact = summarise(tally_of(gradients.double(), [10] * 5))
    found = summarise(tally_of(gradients, [10] * 5))
    assert found["variance"][:3] == pytest.approx(exact["variance"][:3], rel=1e-5)
    assert found["mean_norm2"][:3] == pytest.approx(exact["mean_norm2"][:3], rel=1e-5)
    assert found["snr"][:3] == pytest.approx(exact["snr"][:3], rel=1e-5)


def test_sums_are_multiplied_in_double_precision():
    """Sums that single precision holds exactly, whose squared lengths it does not: |mean|^2 is right to 1e-12."""
    gradients = torch.tensor([[4097.0, 1.0], [4095.0, -1.0]] * 20)
    found = summarise(tally_of(gradients, [2] * 20))
    variance = (2**2 + 2**2) / 2
    assert found["mean_norm2"].value == pytest.approx(4096.0**2 - variance / 40, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_noise_has_no_variance_and_no_signal_to_noise_ratio(dtype):
    gradients = torch.full((9, 3), 0.1, dtype=dtype)
    found = summarise(tally_of(gradients, [2, 2, 2, 3]))
    assert found["variance"][:3] == (0.0, 0.0, 0.0)
    assert found["mean_norm2"].value == pytest.approx(0.03)
    assert all(math.isnan(part) for part in found["snr"][:3])


def test_a_signal_below_the_noise_may_be_negative_and_its_ratio_is_zero():
    """The unbiased squared norm of a mean of zero is negative half of the time; a plug-in never is."""
    gradients = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    found = summarise(tally_of(gradients, [4]))
    assert found["mean_norm2"].value == pytest.approx(-0.5)
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


def test_between_examples_is_the_analysis_of_variance_with_an_interval_of_the_examples_shares():
    rng = np.random.default_rng(2)
    means = rng.standard_normal((7, 3))
    shares = np.sum((means - means.mean(0)) ** 2, 1) / 6
    found = between_examples(torch.from_numpy(means @ means.T))
    assert found == pytest.approx(skewed_mean_interval(shares), rel=1e-10)
    assert found.value == pytest.approx(np.trace(np.cov(means, rowvar=False)) / 7)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("between", "within"), [(1.0, 1.0), (0.0, 1.0), (0.2, 9.0), (2.0, 0.0)])
def test_the_data_s_share_finds_the_variance_of_a_random_effects_model(between, within, largest_z):
    """2,000 simulations of g_rb = m_b + e_rb, B = 8, R = 4 in chunks of 2, D = 2; unbiased for D * between / B."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def one():
        gradients = math.sqrt(between) * normal(1, 8, 2) + math.sqrt(within) * normal(4, 8, 2)
        accumulator = MomentAccumulator(1, gradients, pooled=False)
        for chunk in gradients.split(2):
            noise, examples = squared_deviations_of(chunk, cross=True)
            accumulator.add(len(chunk), noise.sum(1) / 64, examples)
        return summarise(accumulator)["data_variance"].value

    found = np.array([one() for _ in range(2000)])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - 2 * between / 8) / error < largest_z(4)


def test_sets_of_weights_add_what_they_say_of_the_examples():
    one = ExampleMoments(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([[3.0]]))
    other = ExampleMoments(torch.tensor([10.0]), torch.tensor([20.0]), None)
    both = one + one
    assert (both.within, both.squares, both.cross_products) == (2, 4, 6)
    assert (one + other).cross_products is None


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
