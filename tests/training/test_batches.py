"""The data stream: every image once an epoch, binarised anew each time, the same for everybody."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from estbench import problems
from estbench.training.batches import Batches, evaluation_batch


@pytest.fixture
def rows():
    """A problem whose observations are its row numbers."""
    numbers = np.arange(20, dtype=np.float32)[:, None]
    data = SimpleNamespace(name="rows", train=numbers, validation=numbers[:7], test=numbers[:3])
    return SimpleNamespace(
        data=data, device=torch.device("cpu"), takes_bytes=False, observe=lambda intensities, _generator: intensities
    )


@pytest.fixture
def vae():
    return problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")


def drawn(batches: Batches, count: int) -> list[list[int]]:
    return [next(batches).flatten().int().tolist() for _ in range(count)]


def flat(lists: list[list[int]]) -> list[int]:
    return [*chain.from_iterable(lists)]


def test_an_epoch_shows_every_example_once_and_epochs_differ(rows):
    batches = Batches(rows, 5, seed=0)
    first, second = (flat(drawn(batches, 4)) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_what_does_not_fill_a_batch_is_left_out_of_the_epoch(rows):
    epochs = [flat(drawn(batches, 2)) for batches in [Batches(rows, 8, seed=0)] for _ in range(10)]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert set(flat(epochs)) == set(range(20))


@pytest.mark.parametrize("size", [20, 21, 1000])
def test_a_batch_is_never_larger_than_the_data(rows, size):
    batches = Batches(rows, size, seed=0)
    assert batches.batch_size == 20
    assert all(sorted(batch) == list(range(20)) for batch in drawn(batches, 3))


def test_the_seed_decides_the_order(rows):
    same = [drawn(Batches(rows, 5, seed), 8) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_the_order_does_not_depend_on_the_pixels(rows):
    vae = problems.create("vae[hidden=[4],latent_size=2]")
    rows.data.train = np.arange(len(vae.data.train), dtype=np.float32)[:, None]
    orders = []
    for problem in (vae, rows):
        batches = Batches(problem, 2500, seed=3)
        for _ in range(5):  # three epochs
            next(batches)
        orders.append(batches.order)
    assert torch.equal(*orders)


@pytest.mark.parametrize("dataset", ["mnist5k", "digits"])
def test_pixels_are_drawn_from_bytes_where_intensities_are_bytes(dataset):
    batches = Batches(problems.create(f"vae[dataset={dataset},hidden=[4],latent_size=2]"), 50, seed=0)
    assert batches.intensities.dtype == (torch.uint8 if dataset == "mnist5k" else torch.float32)
    assert set(next(batches).unique().tolist()) == {0.0, 1.0}


def test_each_epoch_binarises_anew(vae):
    batches = Batches(vae, len(vae.data.train), seed=0)
    images = []
    for _ in range(2):
        x = next(batches)
        assert set(x.unique().tolist()) == {0.0, 1.0}
        images.append(x[batches.order.argsort()])
    assert not torch.equal(*images)
    certain = torch.from_numpy(vae.data.train == 0)
    assert images[0][certain].sum() == images[1][certain].sum() == 0


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 5])
def test_the_stream_goes_on_where_its_state_was_taken(vae, taken):
    batches = Batches(vae, 400, seed=0)
    for _ in range(taken):
        next(batches)
    again = Batches(vae, 400, seed=99)
    again.load_state_dict(batches.state_dict())
    assert all(torch.equal(next(batches), next(again)) for _ in range(7))


def test_evaluation_batches_are_spread_and_always_the_same(rows, vae):
    assert evaluation_batch(rows, "train", 3, 0).flatten().tolist() == [0, 10, 19]
    assert evaluation_batch(rows, "test", 100, 0).flatten().tolist() == [0, 1, 2]
    assert evaluation_batch(rows, "validation", 1, 0).shape == (1, 1)
    one, same, other = (evaluation_batch(vae, "test", 20, seed) for seed in (1, 1, 2))
    assert one.shape == (20, 64)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
