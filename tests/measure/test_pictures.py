"""Pictures: the same images and noise for every estimator, few bytes, and none where a model makes no images."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch

from estbench import problems
from estbench.errors import EstbenchError
from estbench.measure import pictures
from estbench.measure.pictures import MOST_BYTES

PROBLEMS = {
    "vae[dataset=digits,hidden=[8]]": False,
    "vae[dataset=digits,hidden=[8],latent_size=2]": True,
    "vae[dataset=digits,hidden=[8],latent_size=2,prior=learned,importance_samples=3]": True,
    "vae[dataset=digits,hidden=[8],latent_size=2,latents=bernoulli,coding=signed]": False,
    "vae[dataset=digits,hidden=[8],latents=categorical,latent_size=3]": False,
    "vae[dataset=digits,hidden=[8],latents=dirichlet,latent_size=3]": False,
    "vae[dataset=digits,hidden=[8],latents=student-t]": False,
    "vae[dataset=digits,hidden=[8],likelihood=gaussian]": False,
    "hierarchical_vae[dataset=digits,hidden=[],latent_size=3]": False,
}


def rows_of(problem, seed=0, count=20):
    return pictures(problem, torch.from_numpy(problem.data.test[:count]).round(), seed)


@pytest.mark.parametrize(("label", "has_map"), PROBLEMS.items())
def test_a_model_of_images_has_pictures_of_the_right_size(label, has_map):
    torch.manual_seed(0)
    problem = problems.create(label)
    rows = rows_of(problem)
    expected = {"original": 16, "reconstruction": 16, "sample": 16} | ({"map": 100} if has_map else {})
    assert Counter(row["kind"] for row in rows) == expected
    assert {row["shape"] for row in rows} == {"8x8"}
    assert {len(row["pixels"]) for row in rows} == {64}
    assert sum(len(row["pixels"]) for row in rows) <= MOST_BYTES
    assert rows == rows_of(problem)  # no draw comes from torch's own stream
    assert rows != rows_of(problem, seed=1)


def test_pixels_are_the_data_and_the_mean_images_of_the_decoder():
    torch.manual_seed(0)
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    x = torch.from_numpy(problem.data.test[:20]).round()
    rows = pictures(problem, x, seed=0)
    originals = np.stack([np.frombuffer(row["pixels"], np.uint8) for row in rows if row["kind"] == "original"])
    np.testing.assert_array_equal(originals, 255 * x[:16].numpy())
    grid = np.stack([np.frombuffer(row["pixels"], np.uint8) for row in rows if row["kind"] == "map"])
    quantiles = torch.special.ndtri((torch.arange(10) + 0.5) / 10)
    corner = problem.decode(torch.stack([quantiles[0], quantiles[-1]])[None])  # the top left: z1 least, z2 most
    np.testing.assert_array_equal(grid[0], (255 * corner[0]).round().detach().numpy().astype(np.uint8))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_channels_of_an_image_stand_one_after_the_other(likelihood, tmp_path):
    """Red, green and blue planes, as in the data: what a decoder sees, and what the report draws."""
    images = np.zeros((9, 3, 2, 4), np.uint8)
    images[:, 0, 0], images[:, 1, 1], images[::2, 2, :, 3] = 200, 200, 200
    np.save(tmp_path / "a.npy", images.transpose(0, 2, 3, 1) if likelihood == "gaussian" else images / 400)
    problem = problems.create(f'vae[dataset="file:{tmp_path}/a.npy",hidden=[8],likelihood={likelihood}]')
    rows = pictures(problem, torch.from_numpy(problem.data.train), 0)
    assert {row["shape"] for row in rows} == {"3x2x4"}
    level = 200 if likelihood == "gaussian" else 128
    first = np.frombuffer(rows[0]["pixels"], np.uint8).reshape(3, 2, 4)
    np.testing.assert_array_equal(first[:2], level * (images[0, :2] > 0))
    assert set(np.unique(first[2][:, :3])) == {0}


def test_training_goes_on_as_if_no_picture_had_been_taken():
    torch.manual_seed(0)
    problem = problems.create("vae[dataset=digits,hidden=[8]]")
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in problem.state_dict().items()}
    rows_of(problem)
    assert torch.equal(state, torch.get_rng_state())
    assert problem.training
    assert all(torch.equal(value, before[name]) for name, value in problem.state_dict().items())


@pytest.mark.parametrize("label", ["gaussian_toy", "bernoulli_toy", "logistic_regression"])
def test_a_problem_without_images_has_none(label):
    problem = problems.create(label)
    assert pictures(problem, torch.from_numpy(problem.data.test[:3]), 0) == []


@pytest.mark.parametrize(("shape", "count"), [((3, 32, 32), 16), ((100, 100), 5), ((200, 250), 1)])
def test_large_images_are_fewer(shape, count):
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    size = math.prod(shape)
    problem.data = dataclasses.replace(problem.data, shape=shape)
    problem.encoder, problem.decoder = torch.nn.Linear(size, 4), torch.nn.Linear(2, size)
    rows = pictures(problem, torch.zeros(20, size), 0)
    assert sum(row["kind"] == "sample" for row in rows) == count
    assert sum(len(row["pixels"]) for row in rows) <= MOST_BYTES


def test_an_image_that_is_too_large_is_said():
    problem = problems.create("vae[dataset=digits,hidden=[8]]")
    problem.data = dataclasses.replace(problem.data, shape=(400, 400))
    with pytest.raises(EstbenchError, match="160,000 pixels is too large"):
        pictures(problem, torch.zeros(20, 64), 0)
