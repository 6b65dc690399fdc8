"""What a dataset is, and the registry of those known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

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


@dataclass(frozen=True)
class Card:
    """What a bound on a dataset is a bound on; bounds of different cards are never compared.

    ``version`` is raised when anything about the images, their split or their order changes. ``files`` are the names of
    those that the dataset is made from, in ``files.toml``; none where it ships with a dependency.
    """

    split: str = "own"
    binarisation: Literal["dynamic", "static"] = "dynamic"
    version: int = 1
    files: tuple[str, ...] = ()


Loader = TypeVar("Loader", bound=Callable[[], Dataset])
REGISTRY: Registry[Callable[[], Dataset]] = Registry("dataset")
names = REGISTRY.names


def register(name: str, card: Card = Card()) -> Callable[[Loader], Loader]:
    """Decorator: make a function that loads a dataset known as ``name``."""

    def decorator(loader: Loader) -> Loader:
        loader.card = card  # type: ignore[attr-defined]
        return REGISTRY.register(name)(loader)

    return decorator


def card(name: str) -> Card:
    """The card of a dataset; nothing is loaded."""
    found: Card = getattr(REGISTRY.get(name), "card", Card())
    return found


def card_name(name: str, continuous: bool = False) -> str:
    """The card in one word, which goes into the key of every cell: ``mnist-v1-dynamic-rows``.

    Where a model takes the intensities as they are, ``continuous`` stands in place of the binarisation.
    """
    found = card(name)
    return f"{name}-v{found.version}-{'continuous' if continuous else found.binarisation}-{found.split}"


@cache
def load(name: str) -> Dataset:
    """Load a dataset, once per process; raise ``EstbenchError`` where the name or the files are wrong."""
    return REGISTRY.get(name)()


def describe(name: str) -> str:
    """One line about a dataset."""
    return inspect.getdoc(REGISTRY.get(name)) or ""
