"""Gumbel noise in single precision, which is made from random bits: its law, and its extremes."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from estbench.estimators._noise import gumbel_noise


@pytest.mark.parametrize("shape", [(1_000_001,), (100, 3, 7)])
def test_gumbel_noise_is_standard_gumbel(shape):
    torch.manual_seed(0)
    noise = gumbel_noise(torch.empty(shape)).double()
    assert noise.shape == shape
    assert stats.kstest(noise.flatten().numpy(), stats.gumbel_r.cdf).pvalue > 1e-6  # fails once in a million seeds


def test_both_tails_have_their_share():
    torch.manual_seed(1)
    n = 4_000_000
    noise = gumbel_noise(torch.empty(n))
    for edge in (-2.5, 10.0):  # beyond which are 20 and 182 of four million
        beyond = int((noise < edge).sum() if edge < 0 else (noise > edge).sum())
        chance = stats.gumbel_r.cdf(edge) if edge < 0 else stats.gumbel_r.sf(edge)
        assert 1e-6 < stats.binom.cdf(beyond, n, chance) < 1 - 1e-6


def test_neighbours_are_independent():
    torch.manual_seed(2)
    uniform = torch.exp(-torch.exp(-gumbel_noise(torch.empty(2, 500_000)).double())) - 0.5
    pairs = uniform.flatten()  # two come from one random number
    z = (pairs[:-1] * pairs[1:]).mean() * 12 * len(pairs) ** 0.5
    assert 2 * stats.norm.sf(abs(z)) > 1e-6


@pytest.mark.parametrize("bits", [0, 1, 2**31 - 1, -(2**31), -1])
def test_no_bits_give_anything_but_a_finite_number_of_that_size(bits, monkeypatch):
    number = torch.tensor([bits, bits], dtype=torch.int32).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_: self.copy_(number))
    noise = gumbel_noise(torch.empty(2))
    assert noise.isfinite().all()
    assert noise.min() > -3.2  # -log(32 log 2)
    assert noise.max() < 17.4  # 25 log 2


def test_double_precision_has_noise_of_its_own_precision():
    torch.manual_seed(3)
    noise = gumbel_noise(torch.empty(200_000, dtype=torch.float64))
    assert noise.dtype == torch.float64
    assert (noise != noise.float().double()).any()
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 1e-6
