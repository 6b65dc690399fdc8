"""NumPy's files: one array (``.npy``), or several by name (``.npz``).

Nothing is unpickled. The sizes in the headers are checked before anything is unpacked.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from estbench.datasets._contents import Contents, Parts, is_label, list_arrays, split_named
from estbench.errors import EstbenchError
from estbench.limits import UNPACKED_BYTES

HINT = "save the images with numpy.savez(FILE, train=..., validation=..., test=...), or all of them as one array"
# By the version of the format; a third one is for tables whose columns have names in other alphabets.
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(content: bytes, name: str) -> Contents:
    """Return the images of a ``.npy`` file, which are all in one array."""
    array = _parse(content, name)
    return Contents("one NumPy array (.npy)", {"train": array}, list_arrays({"array": array}))


def read_npz(content: bytes, name: str) -> Contents:
    """Return the images of a ``.npz`` file.

    Arrays named after splits (``train``, ``x_train``, ``val_images``, ...) are the splits. If there are none, the only
    array that has rows and is not named after labels holds all images. Others are left out.
    """
    arrays = _unzip(content, name)
    splits: dict[str, str] = {}
    for each in arrays:
        split = split_named(each)
        if split in splits:
            raise EstbenchError(f"its arrays '{splits[split]}' and '{each}' are both its {split} split; remove one")
        if split is not None:
            splits[split] = each
    if splits and "train" not in splits:
        raise EstbenchError(f"it has {', '.join(sorted(splits.values()))}, and no training images; {HINT}")
    if not splits:
        splits = {"train": _find_only(arrays)}
    parts: Parts = {split: arrays[each] for split, each in splits.items()}
    left_out = {each: array for each, array in arrays.items() if each not in splits.values()}
    return Contents("NumPy arrays (.npz)", parts, list_arrays(arrays), tuple(f"array {each}" for each in left_out))


def _find_only(arrays: dict[str, NDArray[Any]]) -> str:
    """Return the name of the array with all images; raise ``EstbenchError`` if there is none, or more than one."""
    found = [name for name, array in arrays.items() if array.ndim > 1 and not is_label(name)]
    if len(found) != 1:
        known = "; ".join(list_arrays(arrays)) or "none"
        which = "none of them holds" if not found else "several of them could hold"
        raise EstbenchError(f"its arrays are {known}, and {which} the images; {HINT}")
    return found[0]


def _unzip(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            entries = [entry for entry in packed.infolist() if entry.filename.endswith(".npy")]
            UNPACKED_BYTES.check(sum(entry.file_size for entry in entries), name)
            # An entry is unpacked to the size that the archive declares, and no further.
            return {
                entry.filename.removesuffix(".npy"): _parse(packed.read(entry), f"{name}: {entry.filename}")
                for entry in entries
            }
    except EstbenchError:
        raise
    except Exception as error:  # noqa: BLE001  (reading garbage may raise anything)
        raise EstbenchError(f"it is damaged, or no .npz file: {error}; save it again") from None


def _parse(content: bytes, name: str) -> NDArray[Any]:
    """Return the array of a ``.npy`` file, a read-only view of its bytes."""
    file = io.BytesIO(content)
    try:
        shape, by_columns, dtype = HEADERS[npy.read_magic(file)](file)
        size = math.prod(shape) * dtype.itemsize
    except Exception as error:  # noqa: BLE001  (reading garbage may raise anything)
        raise EstbenchError(f"'{name}' is damaged, or no array of NumPy: {error}; save it again") from None
    offset = file.tell()
    if dtype.hasobject:
        raise EstbenchError(
            f"'{name}' holds Python objects, which are never loaded; give numbers (resize images of several sizes)"
        )
    if size != len(content) - offset:
        raise EstbenchError(
            f"'{name}' has {len(content) - offset:,} bytes of data, and its header says {size:,}; save it again"
        )
    if size == 0:
        raise EstbenchError(f"'{name}' is an empty array; give images")
    return np.frombuffer(content, dtype, offset=offset).reshape(shape, order="F" if by_columns else "C")
