"""The readers of MATLAB files, on files made here; and the real statically binarised MNIST where it is at hand."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from estbench import EstbenchError
from estbench.datasets import matlab
from estbench.datasets.files import DATA_DIR

RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2, (12, 28, 28), dtype=np.uint8)


def mat(**arrays):
    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


def rows(images):
    return images.reshape(len(images), -1).astype(np.float32)


def columns(images):
    """Images as MATLAB writes them: column by column."""
    return np.stack([image.flatten(order="F") for image in images])


def test_static_mnist(planted):
    for part, images in zip(("train", "valid", "test"), np.split(BITS, [6, 9]), strict=True):
        planted(f"binarized_mnist/binarized_mnist_{part}.mat", mat(X=images.reshape(len(images), -1)))
    data = matlab.load_static_mnist()
    assert np.array_equal(np.concatenate([data.train, data.validation, data.test]), rows(BITS))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 3, 3]


def test_omniglot(planted, monkeypatch):
    grey = RNG.random((9, 28, 28))
    planted("omniglot/chardata.mat", mat(data=columns(grey[:7]).T, testdata=columns(grey[7:]).T))
    monkeypatch.setattr(matlab, "OMNIGLOT_VALIDATION", 2)
    data = matlab.load_omniglot()
    order = np.random.RandomState(123).permutation(7)
    assert np.array_equal(data.train, rows(grey[order[:5]]))
    assert np.array_equal(data.validation, rows(grey[order[5:]]))
    assert np.array_equal(data.test, rows(grey[7:]))


def test_silhouettes(planted):
    parts = dict(zip(("train_data", "val_data", "test_data"), np.split(1 - BITS, [6, 9]), strict=True))
    planted(matlab.MARLIN.files[0], mat(**{name: columns(part) for name, part in parts.items()}))
    data = matlab.load_silhouettes()
    assert np.array_equal(np.concatenate([data.train, data.validation, data.test]), rows(BITS))
    assert len(data.validation) == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (mat(Y=np.zeros((2, 784))), "is no MATLAB file with an array 'X'"),
        (mat(X=np.zeros((2, 783))), r"shape \(2, 783\) holds no 28x28 images"),
        (b"<html>", "is no MATLAB file"),
        (b"", "is no MATLAB file"),
    ],
    ids=["another array", "another size", "a page", "nothing"],
)
def test_another_file_is_refused(planted, content, complaint):
    for part in ("train", "valid", "test"):
        planted(f"binarized_mnist/binarized_mnist_{part}.mat", content)
    with pytest.raises(EstbenchError, match=complaint):
        matlab.load_static_mnist()


def real_files():
    chosen = os.environ.get(DATA_DIR)
    return Path(chosen) if chosen else Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(
    not (real_files() / "binarized_mnist").is_dir(),
    reason=f"no real files: set {DATA_DIR} to the folder that holds binarized_mnist/",
)
def test_the_real_static_mnist_has_its_published_means(monkeypatch):
    monkeypatch.setenv(DATA_DIR, str(real_files()))
    data = matlab.load_static_mnist()
    parts = (data.train, data.validation, data.test)
    assert [part.shape for part in parts] == [(50_000, 784), (10_000, 784), (10_000, 784)]
    assert {float(value) for part in parts for value in np.unique(part)} == {0.0, 1.0}
    means = [part.mean(dtype=np.float64) for part in parts]
    assert means == pytest.approx([0.13056, 0.13113, 0.13251], abs=5e-6)


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    written = io.BytesIO()
    savemat(written, {"X": np.zeros((2000, 784))}, do_compression=True)
    assert len(written.getvalue()) < 50_000
    assert matlab._array(written.getvalue(), "X", "a.mat").shape == (2000, 784)
    monkeypatch.setenv("ESTBENCH_MAX_UNPACKED_BYTES", "1000000")
    with pytest.raises(EstbenchError, match=r"a\.mat.*unpacked bytes.*ESTBENCH_MAX_UNPACKED_BYTES"):
        matlab._array(written.getvalue(), "X", "a.mat")
