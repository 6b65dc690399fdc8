"""The IDX reader on files made here, and the real files where a data folder is at hand."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from estbench.datasets import idx
from estbench.datasets.files import DATA_DIR
from estbench.errors import EstbenchError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 3), dtype=np.uint8)
NAMES = ("mnist", "fashion_mnist")


def encoded(array, *, kind=idx.UNSIGNED_BYTES, zeros=0):
    header = struct.pack(f">HBB{array.ndim}I", zeros, kind, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("array", [IMAGES, IMAGES[:, 0, 0], IMAGES[:0]], ids=["images", "labels", "empty"])
def test_what_was_written_is_read_back(array):
    content = gzip.compress(encoded(array))
    found = idx.parse_idx(content, "a")
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


GOOD = encoded(IMAGES)
BAD = {
    "truncated pixels": gzip.compress(GOOD[:-1]),
    "pixels too many": gzip.compress(GOOD + b"\0"),
    "truncated header": gzip.compress(GOOD[:9]),
    "header only of zeros": gzip.compress(b"\0\0"),
    "truncated gzip": gzip.compress(GOOD)[:-9],
    "damaged gzip": gzip.compress(GOOD)[:-20] + bytes(12) + gzip.compress(GOOD)[-8:],
    "no deflate stream in gzip": gzip.compress(b"")[:10] + b"\xff" * 20,
    "wrong checksum in gzip": gzip.compress(GOOD)[:-8] + bytes(8),
    "not gzip": GOOD,
    "an HTML page": b"<!DOCTYPE html>",
    "nothing": b"",
    "wrong magic": gzip.compress(encoded(IMAGES, zeros=1)),
    "signed bytes": gzip.compress(encoded(IMAGES.astype(np.int8), kind=0x09)),
    "floats": gzip.compress(encoded(IMAGES.astype(">f4"), kind=0x0D)),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_file_is_an_error_that_names_it(content):
    with pytest.raises(EstbenchError, match=r"train-images-idx3-ubyte\.gz.*fetch it again"):
        idx.parse_idx(content, "train-images-idx3-ubyte.gz")


@pytest.mark.parametrize("name", NAMES)
def test_the_splits_are_rows_of_the_two_files_as_intensities(monkeypatch, planted, name):
    train = np.random.default_rng(1).integers(0, 256, (9, 28, 28), dtype=np.uint8)
    test = np.random.default_rng(2).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for part, array in (("train", train), ("t10k", test)):
        planted(f"{name}/{part}-images-idx3-ubyte.gz", gzip.compress(encoded(array)))
    monkeypatch.setattr(idx, "TRAINING_ROWS", 5)
    data = idx._load(name)
    assert data.name == name
    rows = train.reshape(9, -1).astype(np.float32) / 255
    assert np.array_equal(data.train, rows[:5])
    assert np.array_equal(data.validation, rows[5:])
    assert np.array_equal(data.test, test.reshape(3, -1).astype(np.float32) / 255)


# --- the real files ---------------------------------------------------------------------------------------------


def data_folder():
    """The folder of the environment variable, else one beside the repository."""
    set_by_user = os.environ.get(DATA_DIR)
    return Path(set_by_user) if set_by_user else Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(
    not (data_folder() / "mnist").is_dir(),
    reason=f"no real files: set {DATA_DIR} to the folder that holds mnist/",
)
# The published mean intensities: 0.1307 over all of MNIST's training images, 0.13096 over the first 50,000;
# 0.2860 over all of Fashion-MNIST's.
@pytest.mark.parametrize(("name", "of_first", "of_all"), [("mnist", 0.13096, 0.1307), ("fashion_mnist", None, 0.2860)])
def test_the_real_files_load_with_their_published_means(monkeypatch, name, of_first, of_all):
    monkeypatch.setenv(DATA_DIR, str(data_folder()))
    data = idx._load(name)
    assert (data.train.shape, data.validation.shape, data.test.shape) == (
        (50_000, 784),
        (10_000, 784),
        (10_000, 784),
    )
    assert data.shape == (28, 28)
    assert all(part.dtype == np.float32 for part in (data.train, data.validation, data.test))
    assert (data.train.min(), data.train.max()) == (0.0, 1.0)
    first, rest = (part.mean(dtype=np.float64) for part in (data.train, data.validation))
    assert (5 * first + rest) / 6 == pytest.approx(of_all, abs=5e-5)
    if of_first is not None:
        assert first == pytest.approx(of_first, abs=5e-6)


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((1,) * 255, "rank 1 to 4"),
        ((), "rank 1 to 4"),
        ((2**32 - 1,) * 4, "MAX_UNPACKED_BYTES"),
        ((7, 4, 2), "header says"),
    ],
    ids=["rank 255", "rank 0", "endless", "smaller than what follows"],
)
def test_no_more_is_unpacked_than_the_header_says(shape, complaint):
    header = struct.pack(f">HBB{len(shape)}I", 0, idx.UNSIGNED_BYTES, len(shape), *shape)
    with pytest.raises(EstbenchError, match=complaint):
        idx.parse_idx(gzip.compress(header + bytes(2**20)), "a")
