"""Files of the user as datasets, without code: ``file:faces.npz``, wherever the name of a dataset is written.

These are read: ``.npz`` and ``.npy`` files of NumPy, tables ``.csv`` and ``.csv.gz``, and folders of PNG files. Their
content is part of their identity, so an edited file gives other cells. ``estbench data check`` shows what is read.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from estbench.datasets import _arrays, _images, _tables
from estbench.datasets._contents import Contents, divide, to_images
from estbench.datasets.checks import SPLITS, check_splits, describe_not_finite
from estbench.errors import EstbenchError
from estbench.guarded import KINDS, DamagedError, GuardedPath
from estbench.limits import DATA_BYTES

PREFIX = "file:"
Reader = Callable[[bytes, str], Contents]
READERS: dict[str, Reader] = {
    ".npz": _arrays.read_npz,
    ".npy": _arrays.read_npy,
    ".csv": _tables.read_csv,
    ".csv.gz": _tables.read_csv_gz,
}
SUPPORTED = f"{', '.join(READERS)}, or a folder of PNG files"
DIGITS = 8
LONGEST_STEM = 40
# Names in a folder that are compared with the name of a missing file.
MOST_NEIGHBOURS = 10_000


@dataclass(frozen=True)
class OwnFile:
    """The images of a file, checked, and how they were found.

    Attributes
    ----------
    word
        The identity of the content, for example ``file-faces-1a2b3c4d``.
    kind, found, left_out, notes
        The kind of file, its parts, those that are not used, and how the rest was changed.
    splits
        The images by split, each (N, D) in [0, 1].
    shape
        The shape of one image, (H, W) or (3, H, W).
    split, how
        A word for how the images were divided, which is part of the identity, and the same in a sentence.
    type, low, high
        The type of the values in the file, and their range.
    conversion
        How the values became intensities.
    """

    word: str
    kind: str
    found: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    splits: dict[str, NDArray[np.float32]]
    shape: tuple[int, ...]
    split: str
    how: str
    binarisation: Literal["dynamic", "static"]
    type: str
    low: float
    high: float
    conversion: str


# The state of a file on disk; if it is the same, so is the content.
State = tuple[object, ...]
_read: dict[str, tuple[State, OwnFile]] = {}
_base: Path | None = None


def relative_to(folder: Path | None) -> None:
    """Set the folder that relative paths start from in this process; None for the current folder.

    A worker may have another current folder than the run that sent it a cell.
    """
    global _base  # noqa: PLW0603  (one for the process)
    _base = folder


def is_own_file(name: str) -> bool:
    """Whether the name of a dataset is a file of the user."""
    return name.startswith(PREFIX)


def read(name: str) -> OwnFile:
    """Read and check a file, once per process and content; ``name`` is ``file:PATH``.

    Raises ``EstbenchError`` if the file cannot be used.
    """
    try:
        return _read_once(name.removeprefix(PREFIX))
    except EstbenchError as error:
        raise EstbenchError(f"dataset '{name}': {error}") from None
    except MemoryError:
        raise EstbenchError(f"dataset '{name}' needs more memory than there is; give fewer images") from None
    except OSError as error:
        raise EstbenchError(f"dataset '{name}' cannot be read: {error.strerror or error}; check the path") from None


def check_unchanged(name: str, card: str) -> None:
    """Raise ``EstbenchError`` if a file has other content than when the card of a cell was written."""
    word = read(name).word
    if word[:-DIGITS] in card and word not in card:
        raise EstbenchError(f"dataset '{name}' was changed after the run was planned; run again")


def _read_once(written: str) -> OwnFile:
    path = _locate(written)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        listing = _images.list_folder(path)
        state: State = tuple((file, *_state_of(each)) for file, each in listing.images.items())
        read_it = partial(_read_folder, path, listing)
    elif stat.S_ISREG(status.st_mode):
        state = _state_of(status)
        read_it = partial(_read_file, path, written, _reader_of(path))
    else:
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise EstbenchError(f"it is {kind} and no regular file; give {SUPPORTED}")
    known = str(path.absolute())
    if known not in _read or _read[known][0] != state:
        digest, contents = read_it()
        stem = re.sub(r"[^a-z0-9_]+", "-", path.name.removesuffix(_ending(path)).lower())[:LONGEST_STEM].strip("-")
        _read[known] = state, _check(f"file-{stem or 'images'}-{digest[:DIGITS]}", contents)
    return _read[known][1]


def _read_file(path: Path, written: str, reader: Reader) -> tuple[str, Contents]:
    """Return the digest of a file, and what is in it."""
    content = _content(path, written)
    return hashlib.sha256(content).hexdigest(), reader(content, written)


def _read_folder(path: Path, listing: _images.Listing) -> tuple[str, Contents]:
    """Return the digest of a folder, which covers the names and the bytes of its images, and what is in it."""
    digest = hashlib.sha256()

    def read_image(file: str) -> bytes:
        content = _content(path / file, file)
        digest.update(os.fsencode(file) + b"\0" + hashlib.sha256(content).digest())
        return content

    contents = _images.read_folder(listing, read_image)
    return digest.hexdigest(), contents


def _locate(written: str) -> Path:
    """Return the path that a user wrote; raise ``EstbenchError`` that names the nearest file if there is none."""
    if not written.strip() or "\0" in written:
        raise EstbenchError(f"it names no file; write {PREFIX}PATH, for example {PREFIX}faces.npz")
    try:
        path = Path(written).expanduser()
    except RuntimeError:  # the home of an unknown user
        path = Path(written)
    path = path if _base is None else _base / path
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise EstbenchError(f"there is no folder '{Path(written).parent}' here; correct the path")
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(MOST_NEIGHBOURS), strict=False)]
    near = difflib.get_close_matches(path.name[:100], names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(each) for each in near)}?" if near else "correct the path"
    raise EstbenchError(f"there is no such file; {hint}")


def _state_of(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _ending(path: Path) -> str:
    """Return the ending that names the kind of a file, with both parts of ``.csv.gz``."""
    double = "".join(path.suffixes[-2:]).lower()
    ending = double if double in READERS else path.suffix.lower()
    return path.name[len(path.name) - len(ending) :] if ending else ""


def _reader_of(path: Path) -> Reader:
    ending = _ending(path).lower()
    if ending == ".png":
        raise EstbenchError(f"it is one image; name the folder of all images: {PREFIX}FOLDER")
    if ending not in READERS:
        raise EstbenchError(f"its ending is '{ending}', and these are read: {SUPPORTED}; convert it to one of them")
    return READERS[ending]


def _content(path: Path, written: str) -> bytes:
    """Return the bytes of a regular file; messages name it as ``written``, without the folders of this machine."""
    resolved = path.resolve()  # a link was made by the user, and is followed
    DATA_BYTES.check(resolved.stat().st_size, written)
    try:
        return (GuardedPath(resolved.parent) / resolved.name).read_bytes(DATA_BYTES)
    except DamagedError:
        raise EstbenchError(f"'{written}' is no regular file; remove it, or name another") from None


def _check(word: str, contents: Contents) -> OwnFile:
    """Divide and check what a reader found."""
    for split, array in contents.parts.items():
        if array.dtype.kind not in "biuf":
            raise EstbenchError(
                f"its {split} images are of type {array.dtype}; give numbers: floating-point, integer or boolean"
            )
        if array.ndim > 1 and len(array) == 0:
            raise EstbenchError(f"it has no {split} images; give some")
    parts, shape, notes = to_images(contents.parts)
    for array in parts.values():
        for what in describe_not_finite(array.reshape(len(array), -1)) if array.dtype.kind == "f" else ():
            raise EstbenchError(f"it has {what}; fill them, or remove those images")
    kinds = ", ".join(sorted({str(array.dtype) for array in parts.values()}))
    low, high = min(array.min() for array in parts.values()), max(array.max() for array in parts.values())
    whole, split, how = divide(parts)
    splits = check_splits({each: whole[each] for each in SPLITS}, shape, static=False)
    static = all(bool(((images == 0) | (images == 1)).all()) for images in splits.values())
    conversion = "divided by 255" if "uint8" in kinds and high > 1 else "used as they are, in single precision"
    return OwnFile(
        word,
        contents.kind,
        contents.found,
        contents.left_out,
        (*contents.notes, *notes),
        splits,
        shape,
        split,
        how,
        "static" if static else "dynamic",
        kinds,
        float(low),
        float(high),
        conversion,
    )
