"""What a dataset is, and the registry of those known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.checks import SPLITS, checked_splits
from estbench.errors import EstbenchError
from estbench.failures import mistakes_of
from estbench.registry import Registry

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Images in three splits, each of shape (N, D), as intensities in [0, 1].

    ``shape`` is an image's own: (H, W), or (C, H, W) with channels. A registered function may give other arrays:
    ``estbench.datasets.checks`` says which.
    """

    name: str
    train: Pixels
    validation: Pixels
    test: Pixels
    shape: tuple[int, ...]

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
DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset")
names = DATASETS.names


def register(name: str, card: Card = Card()) -> Callable[[Loader], Loader]:
    """Decorator: make a function that loads a dataset known as ``name``."""
    return DATASETS.register(name, card=card)


def card(name: str) -> Card:
    """The card of a dataset; nothing is loaded."""
    found: Card = getattr(DATASETS.get(name), "card", Card())
    return found


def card_name(name: str, seen: str | None = None) -> str:
    """The card in one word, which goes into the key of every cell: ``mnist-v1-dynamic-rows``.

    ``seen`` stands in place of the binarisation where a model takes the intensities in another way: ``continuous`` as
    they are.
    """
    found = card(name)
    return f"{name}-v{found.version}-{seen or found.binarisation}-{found.split}"


def load(name: str) -> Dataset:
    """Load and check a dataset, once per process; raise ``EstbenchError`` if its name, files or arrays are wrong."""
    loader = DATASETS.get(name)
    if name not in _loaded or _loaded[name][0] is not loader:  # registered again under the same name
        _loaded[name] = loader, _checked(name, loader)
    return _loaded[name][1]


_loaded: dict[str, tuple[Callable[[], Dataset], Dataset]] = {}


def _checked(name: str, loader: Callable[[], Dataset]) -> Dataset:
    with mistakes_of(f"dataset '{name}' cannot be loaded"):
        found: Any = loader()
    if not isinstance(found, Dataset):
        raise EstbenchError(f"dataset '{name}': its function gives {type(found).__name__}; it must return a Dataset")
    static = card(name).binarisation == "static"
    try:
        splits = checked_splits({split: getattr(found, split) for split in SPLITS}, found.shape, static=static)
    except EstbenchError as error:
        raise EstbenchError(f"dataset '{name}': {error}") from None
    return Dataset(name, **splits, shape=tuple(map(int, found.shape)))


def describe(name: str) -> str:
    """One line about a dataset."""
    return inspect.getdoc(DATASETS.get(name)) or ""
