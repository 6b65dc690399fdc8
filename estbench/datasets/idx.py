"""MNIST and Fashion-MNIST from their canonical gzipped IDX files.

The two sets have the same file names, so each has a subfolder.
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.dataset import Dataset, DatasetInfo, Pixels, register
from estbench.datasets.files import files, gunzipped
from estbench.errors import EstbenchError
from estbench.limits import UNPACKED_BYTES

UNSIGNED_BYTES = 0x08
MOST_AXES = 4
# The training rows are in random order. As in the literature, the last 10,000 are the validation split.
TRAINING_ROWS = 50_000


def _info(name: str) -> DatasetInfo:
    return DatasetInfo("rows", files=tuple(f"{name}/{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")))


@register("mnist", _info("mnist"))
def load_mnist() -> Dataset:
    """MNIST (28x28), binarised again at each access; 50,000 / 10,000 / 10,000, validation on the last training rows."""
    return _load("mnist")


@register("fashion_mnist", _info("fashion_mnist"))
def load_fashion_mnist() -> Dataset:
    """Fashion-MNIST (28x28), binarised again at each access; 50,000 / 10,000 / 10,000, split like ``mnist``."""
    return _load("fashion_mnist")


def _load(name: str) -> Dataset:
    train, test = (_to_intensities(parse_idx(file.read(), file.name)) for file in files(_info(name).files))
    return Dataset(name, train[:TRAINING_ROWS], train[TRAINING_ROWS:], test, shape=(28, 28))


def _to_intensities(images: NDArray[np.uint8]) -> Pixels:
    pixels: Pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= 255  # in place: half the time of a division into a new array
    return pixels


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the array in a gzipped IDX file of unsigned bytes, of rank 1 to 4.

    The size in the header is checked first, and no more is unpacked than that. Raises ``EstbenchError`` if the file is
    damaged or over the limit.
    """
    try:
        zeros, kind, rank = struct.unpack_from(">HBB", gunzipped(content, 4))
        header = 4 + 4 * rank
        if zeros != 0 or kind != UNSIGNED_BYTES or not 1 <= rank <= MOST_AXES:
            raise EstbenchError(f"'{name}' is no IDX file of unsigned bytes of rank 1 to {MOST_AXES}; fetch it again")
        shape = struct.unpack_from(f">{rank}I", gunzipped(content, header), 4)
        UNPACKED_BYTES.check(math.prod(shape), name)
        data = gunzipped(content, header + math.prod(shape))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise EstbenchError(f"'{name}' is no gzipped IDX file: {error}; fetch it again") from None
    if len(data) - header != math.prod(shape):
        raise EstbenchError(f"'{name}' has more or fewer bytes than its header says; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
