"""Folders of PNG files, all of one size: grey or in colour, 8 bits for each value.

Subfolders that are named after splits are the splits. Sizes are read from the headers, and checked before any image is
unpacked.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from estbench.datasets._contents import Contents, Parts, split_named
from estbench.errors import EstbenchError
from estbench.limits import DATA_BYTES, UNPACKED_BYTES, Budget

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A user who names a folder of more files has named a wrong one.
MOST_FILES = 200_000
# Red, green, blue and opacity, while an image is unpacked.
BYTES_PER_PIXEL = 4
WHITE = (255, 255, 255, 255)


class Listing(NamedTuple):
    """The PNG files below a folder, by their relative names in order, with their state on disk; and other files."""

    images: dict[str, os.stat_result]
    others: tuple[str, ...]


def list_folder(folder: Path) -> Listing:
    """Return what is in a folder and its subfolders; links to folders are not followed, hidden files are ignored."""
    images: dict[str, os.stat_result] = {}
    others: list[str] = []

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        below = Path(place).relative_to(folder)
        others += [f"{below / each} (a link)" for each in folders if (Path(place) / each).is_symlink()]
        folders[:] = [each for each in folders if not each.startswith(".")]
        for file in files:
            if file.startswith("."):
                continue
            if file.lower().endswith(".png"):
                name = (below / file).as_posix()
                try:
                    images[name] = (Path(place) / file).stat()
                except OSError as error:  # a link that leads nowhere
                    raise EstbenchError(f"'{name}' cannot be read: {error.strerror}; remove it") from None
            else:
                others.append((below / file).as_posix())
        if len(images) + len(others) > MOST_FILES:
            raise EstbenchError(f"it has more than {MOST_FILES:,} files; name a folder that holds only the images")
    return Listing(dict(sorted(images.items())), tuple(sorted(others)))


def read_folder(listing: Listing, read: Callable[[str], bytes]) -> Contents:
    """Return the images of a folder; ``read`` returns the content of a file by its relative name."""
    if not listing.images:
        what = f"has {len(listing.others):,} other files and" if listing.others else "is empty and"
        raise EstbenchError(f"its folder {what} no PNG file (*.png); name a folder of PNG files, or convert yours")
    splits = _splits(listing.images)
    skipped = [name for name in listing.images if name not in splits]
    contents = _read_all(list(splits), read)
    size = _check_sizes(contents)
    remarks: Counter[str] = Counter()
    images = {name: _decode(contents.pop(name), name, remarks) for name in splits}
    if len({image.ndim for image in images.values()}) > 1:
        remarks["grey images among coloured ones are given three equal channels"] += sum(
            image.ndim == 2 for image in images.values()
        )
        images = {
            name: image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
            for name, image in images.items()
        }
    coloured = next(iter(images.values())).ndim == 3
    parts: Parts = {}
    for split in dict.fromkeys(splits.values()):
        stacked = np.stack([images[name] for name, own in splits.items() if own == split])
        parts[split] = np.moveaxis(stacked, -1, 1) if coloured else stacked
    left_out = [f"{name} (in no folder of a split)" for name in skipped] + list(listing.others)
    return Contents(
        "a folder of PNG files",
        parts,
        (f"{len(images):,} PNG files of {size[0]} x {size[1]} pixels, {'in colour' if coloured else 'grey'}",),
        tuple(left_out),
        tuple(f"{remark} ({count:,} files)" for remark, count in remarks.items()),
    )


def _splits(names: dict[str, os.stat_result]) -> dict[str, str]:
    """Return the files to use, each with its split: that of its topmost folder, or train for all."""
    tops = {name: split_named(name.split("/")[0]) if "/" in name else None for name in names}
    found = {split for split in tops.values() if split}
    if found and "train" not in found:
        raise EstbenchError(
            f"it has a subfolder for {' and '.join(sorted(found))}, and none for train; add one, or rename it"
        )
    return {name: split for name, split in tops.items() if split} if found else dict.fromkeys(names, "train")


def _read_all(names: list[str], read: Callable[[str], bytes]) -> dict[str, bytes]:
    budget = Budget(DATA_BYTES)
    contents = {}
    for name in names:
        contents[name] = read(name)
        budget.spend(len(contents[name]), f"{name} and the files before it")
    return contents


def _check_sizes(contents: dict[str, bytes]) -> tuple[int, int]:
    """Return width and height of all images; raise ``EstbenchError`` that names the first file that differs."""
    first, *_ = sizes = {name: _size_of(content, name) for name, content in contents.items()}
    width, height = sizes[first]
    UNPACKED_BYTES.check(len(contents) * width * height * BYTES_PER_PIXEL, f"{len(contents):,} PNG files")
    for name, own in sizes.items():
        if own != (width, height):
            raise EstbenchError(
                f"'{name}' has {own[0]} x {own[1]} pixels, and '{first}' has {width} x {height}; "
                "give all images one size"
            )
    return width, height


def _size_of(content: bytes, name: str) -> tuple[int, int]:
    if not content.startswith(SIGNATURE) or len(content) < 24:
        raise EstbenchError(f"'{name}' is damaged, or no PNG file; save it again, or remove it")
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _decode(content: bytes, name: str, remarks: Counter[str]) -> Pixels:
    """Return an image as (H, W) if it is grey, or (H, W, 3), and count in ``remarks`` what was done to it."""
    from PIL import Image  # noqa: PLC0415  (only needed here)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                image.load()
                pixels = np.asarray(_convert(image, remarks))
    except Exception as error:  # noqa: BLE001  (reading garbage may raise anything)
        raise EstbenchError(f"'{name}' is damaged, or no PNG file: {error}; save it again, or remove it") from None
    return pixels


def _convert(image: Image, remarks: Counter[str]) -> Image | Pixels:
    """Return a grey or coloured image of 8 bits without opacity; a palette of greys gives a grey image."""
    from PIL import Image as Images  # noqa: PLC0415  (only needed here)

    if image.mode in {"L", "RGB"} and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I"):
        remarks["levels of 16 bits are rounded to 8 bits"] += 1
        return np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8)
    grey = image.mode in {"L", "LA"}
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        seen_through = opaque.getchannel("A").getextrema() != (255, 255)
        remarks["transparent pixels are laid over white" if seen_through else "opacity, which is full, is dropped"] += 1
        image = Images.alpha_composite(Images.new("RGBA", image.size, WHITE), opaque).convert("RGB")
    else:
        remarks["colours of a palette are written out"] += 1
        image = image.convert("RGB")
        pixels = np.asarray(image)
        grey = bool((pixels == pixels[:, :, :1]).all())
    return image.getchannel(0) if grey else image
