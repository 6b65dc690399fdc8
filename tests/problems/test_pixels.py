"""Binary pixels: the law of draws from bytes, exactly and in samples, and when intensities are bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from estbench import datasets, problems
from estbench.problems import pixels
from estbench.problems.likelihoods import BernoulliLikelihood
from estbench.problems.pixels import as_bytes, binarised
from estbench.problems.vae import VAE

LEVELS = np.arange(256, dtype=np.uint8)


def test_each_byte_but_the_last_decides_a_pixel_and_the_last_is_drawn_again(monkeypatch):
    # All 256 x 256 pairs of a level and a first byte; where that is 255, the second bytes are 255 again, then 7.
    spare = [
        np.full(256, 255, np.uint8),
        np.full(200, 7, np.uint8),
    ]  # the last draws are not enough: more are asked for
    made = iter([np.concatenate([np.tile(LEVELS, 256), *spare]), np.full(512, 7, np.uint8)])
    monkeypatch.setattr(pixels, "_random_bytes", lambda _count, _generator: next(made))
    x = binarised(torch.from_numpy(np.repeat(LEVELS, 256)), torch.Generator()).view(256, 256)
    assert x.dtype == torch.float32
    assert torch.equal(x[:, :255].sum(1), torch.arange(256.0))  # k of the 255 bytes below 255: probability k/255
    assert torch.equal(x[:, 255], (torch.arange(256) > 7).float())
    assert next(made, None) is None


def test_random_bytes_are_uniform_and_independent():
    # 10 tests at 1e-6 each: together they fail once in 100,000 seeds.
    drawn = pixels._random_bytes(8 * 2**17, torch.Generator().manual_seed(0)).reshape(-1, 8)
    for place in range(8):
        assert stats.chisquare(np.bincount(drawn[:, place], minlength=256)).pvalue > 1e-6
    bits = np.unpackbits(drawn, axis=1).astype(np.float64) - 0.5
    z = (bits[:, :-8] * bits[:, 8:]).mean(0) * 4 * np.sqrt(len(bits))  # the same bit of neighbours in a number
    assert 2 * stats.norm.sf(np.abs(z).max()) * z.size > 1e-6
    following = (bits[:-1] * bits[1:]).mean(0) * 4 * np.sqrt(len(bits) - 1)
    assert 2 * stats.norm.sf(np.abs(following).max()) * following.size > 1e-6


def test_bytes_and_floats_have_the_same_law():
    # The number of ones of each level is binomial(n, k/255); the false-alarm rate is 1e-6 for both together.
    n = 4000
    for intensities in (torch.from_numpy(LEVELS), torch.from_numpy(LEVELS) / np.float32(255)):
        ones = binarised(intensities.expand(n, -1), torch.Generator().manual_seed(1)).sum(0).double()
        p = torch.arange(256) / 255
        assert ones[0] == 0
        assert ones[255] == n
        z = ((ones - n * p) / (n * p * (1 - p)).sqrt())[1:-1]
        assert 2 * stats.norm.sf(z.abs().max()) * 2 * len(z) > 1e-6


def test_a_draw_is_a_function_of_the_generator():
    levels = torch.from_numpy(datasets.load("mnist5k").train[:7] * 255).round().to(torch.uint8)
    one, same, other = (binarised(levels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.shape == (7, 784)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("divided", [lambda k: k / np.float32(255), lambda k: k * np.float32(1 / 255)])
def test_intensities_of_bytes_are_found_however_they_were_divided(divided):
    assert np.array_equal(as_bytes(divided(LEVELS.astype(np.float32))), LEVELS)


@pytest.mark.parametrize("other", [0.5, 1e-6, 1 - 1e-6, 3 / 255 + 1e-6])
def test_one_other_intensity_is_enough_to_keep_floats(other):
    assert as_bytes(np.append(LEVELS / np.float32(255), np.float32(other))) is None


class Inverted(VAE):
    """A model that sees other pixels than the dataset's."""

    def observe(self, intensities, generator):
        return super().observe(1 - intensities, generator)


class Faint(BernoulliLikelihood):
    """A likelihood of its own pixels."""

    def observe(self, intensities, generator):
        return super().observe(intensities / 2, generator)


def test_only_a_problem_whose_pixels_are_drawn_here_takes_bytes():
    small = "dataset=digits,hidden=[4]"
    assert all(
        problems.create(f"{name}[{small}]").takes_bytes
        for name in ("vae", "hierarchical_vae", "mixed_vae", "half_images")
    )
    assert not problems.create(f"vae[{small},likelihood=gaussian]").takes_bytes
    assert not Inverted().takes_bytes
    vae = problems.create(f"vae[{small}]")
    vae.likelihood = Faint(vae.data)
    assert not vae.takes_bytes
