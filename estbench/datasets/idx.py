"""MNIST and Fashion-MNIST from their canonical gzipped IDX files.

The two sets use the same file names, so each has a sub-folder of its own under ``ESTBENCH_DATA_DIR``.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.dataset import Dataset, Pixels, register
from estbench.errors import EstbenchError

DATA_DIR = "ESTBENCH_DATA_DIR"
UNSIGNED_BYTES = 0x08
# The training rows are in random order, so the literature's split by rows is fair: the last 10,000 validate.
TRAINING_ROWS = 50_000

SHA256 = {
    "mnist/train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "mnist/t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "fashion_mnist/train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "fashion_mnist/t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
}


@register("mnist")
def load_mnist() -> Dataset:
    """MNIST (28x28) from $ESTBENCH_DATA_DIR/mnist; 50,000 / 10,000 / 10,000."""
    return _load("mnist")


@register("fashion_mnist")
def load_fashion_mnist() -> Dataset:
    """Fashion-MNIST (28x28) from $ESTBENCH_DATA_DIR/fashion_mnist; 50,000 / 10,000 / 10,000."""
    return _load("fashion_mnist")


def _load(name: str) -> Dataset:
    files = [f"{name}/{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    root = os.environ.get(DATA_DIR)
    if not root:
        raise EstbenchError(
            f"{name} needs its files: set {DATA_DIR} to the folder that holds {' and '.join(files)}"
            " (mnist5k and digits need none)"
        )
    missing = [file for file in files if not (Path(root) / file).is_file()]
    if missing:
        raise EstbenchError(
            f"{name}: no {' and no '.join(missing)} in {DATA_DIR}={root}; put the canonical .gz files there"
        )
    train, test = (_intensities(read_idx(Path(root) / file, SHA256[file])) for file in files)
    return Dataset(name, train[:TRAINING_ROWS], train[TRAINING_ROWS:], test, shape=(28, 28))


def _intensities(images: NDArray[np.uint8]) -> Pixels:
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)


def read_idx(path: Path, sha256: str | None = None) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes, of any rank; check it against ``sha256`` where that is given."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EstbenchError(f"cannot read '{path}': {error.strerror}") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise EstbenchError(f"'{path}' is not the canonical file: its SHA-256 is not {sha256}; fetch it again")
    try:
        data = gzip.decompress(content)
        zeros, kind, rank = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{rank}I", data, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise EstbenchError(f"'{path}' is no gzipped IDX file: {error}; fetch it again") from None
    header = 4 + 4 * rank
    if zeros != 0 or kind != UNSIGNED_BYTES or len(data) - header != int(np.prod(shape, dtype=np.int64)):
        raise EstbenchError(f"'{path}' is no IDX file of unsigned bytes, or is cut short; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
