"""What a dataset is, and the registry of those known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from estbench.registry import Registry

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Images in three splits, each of shape (N, D), as intensities in [0, 1]; ``shape`` is an image's own (H, W)."""

    name: str
    train: Pixels
    validation: Pixels
    test: Pixels
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of pixels D."""
        return int(self.train.shape[1])


REGISTRY: Registry[Callable[[], Dataset]] = Registry("dataset")
register = REGISTRY.register
names = REGISTRY.names


@cache
def load(name: str) -> Dataset:
    """Load a dataset, once per process; raise ``EstbenchError`` where the name or the files are wrong."""
    return REGISTRY.get(name)()


def describe(name: str) -> str:
    """One line about a dataset."""
    return inspect.getdoc(REGISTRY.get(name)) or ""
