"""A look at a checkpoint before it is loaded: an archive may claim more than it weighs, and so may what is in it.

A checkpoint is a zip archive of uncompressed tensors and one pickle that says how they hang together. The pickle may
only name what plain tensors are made of: other constructors that torch trusts make gigabytes out of a few bytes.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from typing import IO

# A model's moments and its estimator's, and what was measured so far, beside its weights.
COPIES = 8
MEASURED_BYTES = 64 * 2**20
PICKLE_BYTES = 64 * 2**20
MOST_ENTRIES = 100_000
ALLOWED = re.compile(
    r"torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble)Storage"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict|torch (device|Size)|builtins (set|complex)"
)


def most_bytes(weights: int) -> int:
    """The room that a checkpoint of a model of so many bytes may take, on disk and in memory."""
    return COPIES * weights + MEASURED_BYTES


def complaint(file: IO[bytes], weights: int) -> str:
    """Why a checkpoint of a model whose weights have so many bytes must not be loaded; empty where it may.

    The file is left at its beginning. What is no archive at all is left to torch, which says so.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most_bytes(weights):
        return f"it has {size:,} bytes, and one of this model has {most_bytes(weights):,} at most"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > size:
                return "its entries take more room than the file itself"
            for entry in entries:
                if entry.filename.rpartition("/")[2] == "data.pkl":
                    return (
                        _foreign(archive.read(entry)) if entry.file_size <= PICKLE_BYTES else "its pickle is too large"
                    )
            return "it has no pickle"
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, KeyError):
        return "it is no archive that can be read"
    finally:
        file.seek(0)


def _foreign(content: bytes) -> str:
    """Complain of the first thing that a pickle names and no tensor needs."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}:
            return f"its pickle has the operation {operation.name}"
        if operation.name == "GLOBAL" and not ALLOWED.fullmatch(str(argument)):
            return f"it names {argument}"
    return ""
