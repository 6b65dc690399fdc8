"""Datasets: images in three splits, and the registry of the known ones.

The name of a dataset is a registered one, or ``file:PATH`` for a file of the user: see ``estbench.datasets.own_files``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.checks import SPLITS, check_splits
from estbench.datasets.own_files import PREFIX, OwnFile, is_own_file
from estbench.datasets.own_files import read as read_own_file
from estbench.errors import EstbenchError
from estbench.failures import mistakes_of
from estbench.registry import Registry

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Images in three splits, each of shape (N, D), as intensities in [0, 1].

    ``shape`` is that of one image: (H, W), or (C, H, W) with channels; D is its product. A registered function may
    return other arrays, which are converted: see ``estbench.datasets.checks``.
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
class DatasetInfo:
    """The facts that make bounds on a dataset comparable; bounds with different facts are never compared.

    ``version`` is raised when the images, their split or their order change. ``files`` are the names of its files in
    ``files.toml``; none if the dataset ships with a dependency.
    """

    split: str = "own"
    binarisation: Literal["dynamic", "static"] = "dynamic"
    version: int = 1
    files: tuple[str, ...] = ()


Loader = TypeVar("Loader", bound=Callable[[], Dataset])
DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset")
names = DATASETS.names


def register(name: str, info: DatasetInfo = DatasetInfo()) -> Callable[[Loader], Loader]:
    """Decorator: register a function that loads a dataset under ``name``.

    >>> import numpy as np
    >>> @register("noise", DatasetInfo("three-parts"))
    ... def load_noise():
    ...     images = np.random.default_rng(0).random((30, 8, 8))
    ...     return Dataset("noise", images[:10], images[10:20], images[20:], shape=(8, 8))
    >>> load("noise").train.shape
    (10, 64)
    """
    return DATASETS.register(name, dataset_info=info)


def info(name: str) -> DatasetInfo:
    """Return the facts of a dataset, without loading it; a file of the user is read for them."""
    if is_own_file(name):
        own = read_own_file(name)
        return DatasetInfo(own.split, own.binarisation)
    facts: DatasetInfo = getattr(_registered(name), "dataset_info", DatasetInfo())
    return facts


def data_id(name: str, observation: str | None = None) -> str:
    """Return the facts of a dataset as one word, which is part of every cell's key: ``mnist-v1-dynamic-rows``.

    ``observation`` takes the place of the binarisation if a model sees the intensities in another way: ``continuous``
    if it takes them as they are. The word for a file of the user has its content in it:
    ``file-faces-1a2b3c4d-v1-dynamic-random``.
    """
    facts = info(name)
    word = read_own_file(name).word if is_own_file(name) else name
    return f"{word}-v{facts.version}-{observation or facts.binarisation}-{facts.split}"


def load(name: str) -> Dataset:
    """Load and check a dataset, once per process; raise ``EstbenchError`` if its name, files or arrays are wrong.

    >>> import tempfile
    >>> import numpy as np
    >>> path = tempfile.mkdtemp() + "/noise.npy"
    >>> np.save(path, np.random.default_rng(0).random((30, 8, 8)))
    >>> data = load(f"file:{path}")
    >>> data.train.shape, data.validation.shape, data.test.shape
    ((24, 64), (3, 64), (3, 64))
    """
    source = read_own_file(name) if is_own_file(name) else _registered(name)
    if name not in _loaded or _loaded[name][0] is not source:  # registered again, or the file was edited
        if isinstance(source, OwnFile):
            _loaded[name] = source, Dataset(name, **source.splits, shape=source.shape)
        else:
            _loaded[name] = source, _load_and_check(name, source)
    return _loaded[name][1]


_loaded: dict[str, tuple[OwnFile | Callable[[], Dataset], Dataset]] = {}


def _registered(name: str) -> Callable[[], Dataset]:
    """Return a registered function; the error about an unknown name says how to name a file."""
    try:
        return DATASETS.get(name)
    except EstbenchError as error:
        if "/" in name or "." in name:
            raise EstbenchError(f"{error}; if it is a file, write {PREFIX}{name}") from None
        raise


def _load_and_check(name: str, loader: Callable[[], Dataset]) -> Dataset:
    with mistakes_of(f"dataset '{name}' cannot be loaded"):
        raw: Any = loader()
    if not isinstance(raw, Dataset):
        raise EstbenchError(f"dataset '{name}': its function gives {type(raw).__name__}; it must return a Dataset")
    static = info(name).binarisation == "static"
    try:
        splits = check_splits({split: getattr(raw, split) for split in SPLITS}, raw.shape, static=static)
    except EstbenchError as error:
        raise EstbenchError(f"dataset '{name}': {error}") from None
    return Dataset(name, **splits, shape=tuple(map(int, raw.shape)))


def describe(name: str) -> str:
    """Return the documentation of a dataset's function; of a file, what it holds."""
    if is_own_file(name):
        own = read_own_file(name)
        counts = " / ".join(f"{len(images):,}" for images in own.splits.values())
        return f"{own.kind}: {counts} images of {' x '.join(map(str, own.shape))}; {own.how}."
    return inspect.getdoc(DATASETS.get(name)) or ""
