"""Datasets that are MATLAB files: statically binarised MNIST, Omniglot and the Caltech-101 silhouettes.

The training and validation rows of ``static_mnist`` are a random split of MNIST's training set, which is not that of
``mnist``: they must never be mixed. Its test rows are sorted by class, so a subset of them must be spread over all.
Omniglot is split as by Burda, Grosse and Salakhutdinov (2016, arXiv:1509.00519).
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.dataset import Dataset, DatasetInfo, Pixels, register
from estbench.datasets.files import files
from estbench.errors import EstbenchError
from estbench.limits import UNPACKED_BYTES

STATIC = tuple(f"binarized_mnist/binarized_mnist_{part}.mat" for part in ("train", "valid", "test"))
LAROCHELLE = DatasetInfo("larochelle", "static", files=STATIC)
IWAE = DatasetInfo("iwae", files=("omniglot/chardata.mat",))
MARLIN = DatasetInfo("marlin", "static", files=("silhouettes/caltech101_silhouettes_28_split1.mat",))
# In MATLAB's format 5: bytes of the header, and the type of a compressed element; and bytes unpacked at a time.
HEADER, COMPRESSED, PIECE = 128, 15, 2**20
# IWAE's split: the validation split is the last rows of one fixed permutation of the training rows.
OMNIGLOT_SEED, OMNIGLOT_VALIDATION = 123, 1345


@register("static_mnist", LAROCHELLE)
def load_static_mnist() -> Dataset:
    """MNIST (28x28), binarised once by Larochelle and Murray; 50,000 / 10,000 / 10,000."""
    train, validation, test = (
        _array(file.read(), "X", file.name).astype(np.float32) for file in files(LAROCHELLE.files)
    )
    return Dataset("static_mnist", train, validation, test, shape=(28, 28))


@register("omniglot", IWAE)
def load_omniglot() -> Dataset:
    """Omniglot (28x28 grey characters of IWAE), binarised again at each access; 23,000 / 1,345 / 8,070."""
    (file,) = files(IWAE.files)
    content = file.read()
    train, test = (_upright(_array(content, key, file.name).T) for key in ("data", "testdata"))
    train = train[np.random.RandomState(OMNIGLOT_SEED).permutation(len(train))]
    return Dataset("omniglot", train[:-OMNIGLOT_VALIDATION], train[-OMNIGLOT_VALIDATION:], test, shape=(28, 28))


@register("silhouettes", MARLIN)
def load_silhouettes() -> Dataset:
    """Caltech-101 silhouettes (28x28, objects are 1), which are binary; 4,100 / 2,264 / 2,307."""
    (file,) = files(MARLIN.files)
    content = file.read()
    # In the file, an object is 0 and its background 1.
    train, validation, test = (
        1 - _upright(_array(content, f"{part}_data", file.name)) for part in ("train", "val", "test")
    )
    return Dataset("silhouettes", train, validation, test, shape=(28, 28))


def _upright(columns: NDArray[Any]) -> Pixels:
    """Return images, (N, 784), whose pixels were stored column by column, row by row."""
    return np.ascontiguousarray(columns.reshape(-1, 28, 28).transpose(0, 2, 1), dtype=np.float32).reshape(-1, 784)


def _inflated_size(content: bytes) -> int:
    """Return the unpacked size of the compressed elements of a MATLAB file; stop a bit above the limit."""
    size, at = 0, HEADER
    while at + 8 <= len(content) and size <= UNPACKED_BYTES.value:
        order = "big" if content[HEADER - 2 : HEADER] == b"MI" else "little"
        kind, length = (int.from_bytes(content[at + part : at + part + 4], order) for part in (0, 4))  # type: ignore[arg-type]
        if kind == COMPRESSED:
            stream, packed = zlib.decompressobj(), content[at + 8 : at + 8 + length]
            while packed and size <= UNPACKED_BYTES.value:
                try:
                    size += len(stream.decompress(packed, PIECE))
                except zlib.error:
                    break  # the reader raises an error about it
                packed = stream.unconsumed_tail
        at += 8 + length
    return size


def _array(content: bytes, key: str, name: str) -> NDArray[Any]:
    from scipy.io import loadmat  # noqa: PLC0415  (slow to import, and only needed here)

    UNPACKED_BYTES.check(_inflated_size(content), name)
    try:
        array: NDArray[Any] = loadmat(io.BytesIO(content), variable_names=[key])[key]  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001  (reading garbage may raise anything)
        raise EstbenchError(f"'{name}' is no MATLAB file with an array '{key}': {error}; fetch it again") from None
    if array.ndim != 2 or 784 not in array.shape:
        raise EstbenchError(f"'{name}': its array '{key}' of shape {array.shape} holds no 28x28 images")
    return array
