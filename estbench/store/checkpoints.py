"""Checks of a checkpoint before it is loaded: a small file may unpack to gigabytes.

A checkpoint is a zip archive of uncompressed tensors and one pickle that describes them. The pickle may only name the
constructors of plain tensors: others, which torch trusts, make gigabytes out of a few bytes.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from typing import IO

# Weights, the optimiser's moments and the estimator's, in copies of the weights; and the measurements so far.
COPIES = 8
MEASURED_BYTES = 64 * 2**20
PICKLE_BYTES = 64 * 2**20
MOST_ENTRIES = 100_000
ALLOWED = re.compile(
    r"torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble)Storage"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict|torch (device|Size)|builtins (set|complex)"
)


def most_bytes(weights: int) -> int:
    """Return the largest size of a checkpoint, on disk and in memory, for a model of so many bytes of weights."""
    return COPIES * weights + MEASURED_BYTES


def complaint(file: IO[bytes], weights: int) -> str:
    """Return why a checkpoint must not be loaded into a model of so many bytes of weights; "" if it may be.

    The position in the file is its start again afterwards.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most_bytes(weights):
        return f"it has {size:,} bytes; one of this model has at most {most_bytes(weights):,}"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > size:
                return "its entries are larger than the file itself"
            for entry in entries:
                if entry.filename.rpartition("/")[2] == "data.pkl":
                    return (
                        _check_pickle(archive.read(entry))
                        if entry.file_size <= PICKLE_BYTES
                        else "its pickle is too large"
                    )
            return "it has no pickle"
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, KeyError):
        return "it is no archive that can be read"
    finally:
        file.seek(0)


def _check_pickle(content: bytes) -> str:
    """Return a complaint about the first constructor in a pickle that no plain tensor needs; "" if there is none."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}:
            return f"its pickle has the operation {operation.name}"
        if operation.name == "GLOBAL" and not ALLOWED.fullmatch(str(argument)):
            return f"it names {argument}"
    return ""
