"""Randomised quasi-Monte Carlo: each point is uniform, all together are even, each example has its own scramble."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oracles.gaussian_toy import columns, sample_toy
from oracles.z_scores import largest_z, z_of_mean

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators.continuous.rqmc import scrambled_sobol

DOUBLE = torch.zeros((), dtype=torch.float64)


def test_every_elementary_box_holds_one_point():
    """In two dimensions Sobol's sequence is a (0, m, 2)-net, and a scramble keeps it one: 2^a x 2^(m - a) boxes."""
    torch.manual_seed(0)
    points = scrambled_sobol(16, (50, 2), DOUBLE)
    for a in range(5):
        boxes = (points * torch.tensor([2**a, 2 ** (4 - a)])).long()
        index = boxes[..., 0] * 2 ** (4 - a) + boxes[..., 1]
        assert torch.equal(index.sort(0).values, torch.arange(16)[:, None].expand(-1, 50))


def test_every_dimension_is_stratified():
    torch.manual_seed(0)
    points = scrambled_sobol(8, (3, 5, 40), DOUBLE)
    assert points.shape == (8, 3, 5, 40)
    assert torch.equal((points * 8).long().sort(0).values, torch.arange(8)[:, None, None, None].expand(-1, 3, 5, 40))


def test_each_point_is_uniform_on_its_own():
    """Moments 1 to 4 of each point in each dimension, over 50,000 scrambles, and of products of two dimensions."""
    torch.manual_seed(1)
    points = scrambled_sobol(4, (50_000, 3), DOUBLE).movedim(1, 0)
    for power in range(1, 5):
        z = z_of_mean(points**power, 1 / (power + 1))
        assert float(z.abs().max()) < largest_z(4 * 12 + 12)
    for first, second in itertools.combinations(range(3), 2):
        z = z_of_mean(points[..., first] * points[..., second], 0.25)
        assert float(z.abs().max()) < largest_z(4 * 12 + 12)


def test_every_row_has_a_scramble_of_its_own():
    torch.manual_seed(2)
    points = scrambled_sobol(4, (1000, 2), DOUBLE)
    assert len(points.unique()) == points.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", ["lowest", "highest"])
def test_the_noise_is_finite_for_the_rarest_random_numbers(dtype, extreme, monkeypatch):
    values = {"lowest": lambda high: 0, "highest": lambda high: high - 1}
    monkeypatch.setattr(torch, "randint", lambda high, shape, **_: torch.full(shape, values[extreme](high)))
    points = scrambled_sobol(8, (2, 3), torch.zeros((), dtype=dtype))
    assert points.dtype == dtype
    assert points.gt(0).all()
    assert points.lt(1).all()
    assert torch.special.ndtri(points).isfinite().all()


def test_the_variance_over_scrambles_is_far_below_that_of_as_many_independent_points():
    """Quadratic, 8 points: independent ones leave 4 s^2 / 8 for the mean and s^2 (4 d^2 + 8 s^2) / 8 for log s.

    The square of the noise, which is in the latter, has long tails: less than half is left at its upper bound.
    """
    m, s, k = columns()
    n = 20_000
    found = sample_toy("rqmc[num_points=8]", n)
    for name, independent in {"loc": 4 * s**2, "log_scale": s**2 * (4 * (m - k) ** 2 + 8 * s**2)}.items():
        drawn = found[name][..., 0]
        fourth = (drawn - drawn.mean(0)).pow(4).mean(0)
        upper = drawn.var(0) + largest_z(6) * (fourth / n).sqrt()
        assert bool((upper < independent / 8 / 2).all())


def test_more_points_fall_faster_than_their_number():
    """From 4 to 64 points the variance of the mean's gradient falls by more than 16^1.5 (a smooth f: up to N^3)."""
    few, many = (sample_toy(f"rqmc[num_points={count}]", 5000, cost="cosine")["loc"].var(0) for count in (4, 64))
    assert float((few / many).min()) > math.pow(16, 1.5)


def test_samples_of_the_base_are_further_dimensions():
    """Two samples of one latent: the pair fills the square, so that RLOO has no two points alike."""
    estimator = estimators.create("rqmc[base=rloo,num_points=16]")
    torch.manual_seed(3)
    noise = estimator.noise((2,), torch.zeros(16, 7, 3, dtype=torch.float64))
    assert noise.shape == (2, 16, 7, 3)
    strata = (torch.special.ndtr(noise) * 16).long().sort(1).values
    assert torch.equal(strata, torch.arange(16)[:, None, None].expand(2, -1, 7, 3))
    assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize("count", [3, 12])
def test_a_number_that_is_no_power_of_two_is_refused(count):
    nearest = {3: 4, 12: 16}[count]
    with pytest.raises(EstbenchError, match=f"powers of two.*take {nearest}"):
        estimators.create(f"rqmc[num_points={count}]")
