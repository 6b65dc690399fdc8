"""A dataset as somebody's function gives it, made into what models take: checked once, before anything is run.

The rules for the three splits together:

* booleans and integers that are only 0 and 1 are taken as they are;
* other unsigned bytes are divided by 255; other integers are refused, because nothing says what their largest value is;
* floating-point numbers of any precision must lie in [0, 1]; what is outside by rounding is set to the nearest end;
* images may be flat, (N, H, W) or (N, C, H, W), as ``shape`` says; every split has at least one.

The result is in single precision, flat, contiguous and writable, whatever the strides of what was given; it is copied
only where it has to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estbench.errors import EstbenchError

SPLITS = ("train", "validation", "test")
# How far outside of [0, 1] rounding leads, in half precision and after resizing.
ROUNDING = 1e-3
# Bytes below this are no brightness: labels or counts.
DARK = 32
# What a split may take in memory, in single precision.
MOST_BYTES = 2**35


def checked_splits(given: dict[str, Any], shape: Any, *, static: bool) -> dict[str, NDArray[np.float32]]:
    """The splits by name, each (N, D) in [0, 1]; raise ``EstbenchError`` that says what is wrong, and what to do."""
    size = _size_of(shape)
    raw = {split: _flat(_array(given[split], split), split, shape, size) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        if _overlap(raw[one], raw[other]):
            raise EstbenchError(f"its {one} and {other} splits are the same memory; give each its own images")
    binary = all(_is_binary(images) for images in raw.values() if images.dtype.kind in "iu")
    splits = {split: _intensities(images, split, binary=binary) for split, images in raw.items()}
    train = splits["train"]
    if train.min() == train.max():
        raise EstbenchError(
            f"its train split is {train.min():g} everywhere, which leaves nothing to learn; check its files"
        )
    if static:
        for split, images in splits.items():
            if not _is_binary(images):
                raise EstbenchError(
                    f"its card says that it is binarised (static), and its {split} split has values between 0 and 1; "
                    "round them, or leave the card's binarisation dynamic"
                )
    return splits


def _size_of(shape: Any) -> int:
    if not (
        isinstance(shape, tuple | list)
        and len(shape) in {2, 3}
        and all(isinstance(each, int | np.integer) and not isinstance(each, bool) and each > 0 for each in shape)
    ):
        raise EstbenchError(f"its shape is {shape!r}; give an image's (height, width), or (channels, height, width)")
    return math.prod(map(int, shape))


def _array(given: Any, split: str) -> NDArray[Any]:
    """An array of numbers from an array, a tensor, a list or a table."""
    if given is None:
        raise EstbenchError(f"its {split} split is missing; take some of the training images for it")
    if hasattr(given, "toarray"):
        raise EstbenchError(f"its {split} split is a sparse matrix; give {split}.toarray()")
    if hasattr(given, "detach"):  # a tensor, of any device; NumPy has no bfloat16
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()
    if np.ma.is_masked(given):
        raise EstbenchError(f"its {split} split has masked values; fill them, or leave those images out")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise EstbenchError(f"its {split} split is no array of numbers: {error}; give one of (N, D)") from None
    if array.dtype.kind not in "biuf":
        raise EstbenchError(
            f"its {split} split is of type {array.dtype}; give floating-point numbers in [0, 1], bytes or booleans"
        )
    return array


def _flat(array: NDArray[Any], split: str, shape: tuple[int, ...], size: int) -> NDArray[Any]:
    """(N, D) of any array that holds images of this shape; a view where that is possible."""
    if array.ndim < 2:
        hint = "are these labels? " if array.ndim == 1 else ""
        raise EstbenchError(f"its {split} split has shape {array.shape}; {hint}give images, (N, {size})")
    count, *image = array.shape
    if count == 0:
        raise EstbenchError(
            f"its {split} split is empty; "
            + ("give images" if split == "train" else "take some of the training images")
        )
    if math.prod(image) != size:
        hint = "; transpose it" if array.ndim == 2 and count == size else ""
        raise EstbenchError(
            f"its {split} split has shape {array.shape}, and images of {'x'.join(map(str, shape))} have {size} values"
            f"{hint}; make them agree"
        )
    if len(image) > 1 and _without_ones(image) != _without_ones(shape):
        raise EstbenchError(
            f"its {split} split has images of {tuple(image)}, and its shape is {tuple(shape)}; "
            "give images as (N, H, W) or (N, C, H, W), in the order of the shape"
        )
    if count * size * 4 > MOST_BYTES:
        raise EstbenchError(
            f"its {split} split would take {count * size * 4 / 2**30:,.0f} GiB of memory, and the most is "
            f"{MOST_BYTES // 2**30}; give fewer images"
        )
    return array.reshape(count, size)


def _without_ones(shape: Any) -> list[int]:
    return [int(each) for each in shape if each != 1]


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have memory in common; where that is too hard to tell, no."""
    try:
        return np.shares_memory(one, other, max_work=1000)  # type: ignore[arg-type]  # a bound, which the stubs lack
    except np.exceptions.TooHardError:
        return False


def _intensities(images: NDArray[Any], split: str, *, binary: bool) -> NDArray[np.float32]:
    kind = images.dtype.kind
    if kind == "b":
        return np.array(images, np.float32, order="C")
    if kind in "iu":
        return _scaled(images, split, binary=binary)
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise EstbenchError(
            f"its {split} split has {', '.join(_not_finite(images))}; fill them, or leave those images out"
        )
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise EstbenchError(
            f"its {split} split goes from {low:g} to {high:g}, and intensities are in [0, 1]; {_remedy(low, high)}"
        )
    # Not a view: what is read only, mapped from a file or strided would be a warning or slow.
    fit = images.dtype == np.float32 and images.flags.c_contiguous and images.flags.writeable
    found = images if fit and not _is_mapped(images) else np.array(images, np.float32, order="C")
    return np.clip(found, 0, 1, dtype=np.float32) if low < 0 or high > 1 else np.asarray(found)


def _is_mapped(images: Any) -> bool:
    """Whether an array is a file: what changes it would change the file, and its numbers are read again and again."""
    while images is not None and not isinstance(images, np.memmap):
        images = getattr(images, "base", None)
    return images is not None


def _scaled(images: NDArray[Any], split: str, *, binary: bool) -> NDArray[np.float32]:
    if not binary:
        low, high = int(images.min()), int(images.max())
        if images.dtype != np.uint8:
            raise EstbenchError(
                f"its {split} split has integers from {low} to {high}; divide them by the largest possible value, "
                "or give bytes (uint8), which are divided by 255"
            )
        if high < DARK and not _is_binary(images):
            raise EstbenchError(
                f"its {split} split has bytes from {low} to {high}, and bytes stand for 0 to 255; "
                "divide them by the largest possible value"
            )
    found = np.array(images, np.float32, order="C")
    if not binary:
        found /= 255
    return found


def _is_binary(images: NDArray[Any]) -> bool:
    return all(bool(((rows == 0) | (rows == 1)).all()) for rows in _pieces(images))


def _not_finite(images: NDArray[Any]) -> Iterator[str]:
    for name, which in (("NaN", np.isnan), ("infinite values", np.isinf)):
        counts = [np.count_nonzero(which(rows)) for rows in _pieces(images)]
        if sum(counts):
            piece = next(place for place, count in enumerate(counts) if count)
            row, column = np.argwhere(which(list(_pieces(images))[piece]))[0]
            yield f"{sum(counts):,} {name} (the first in image {piece * ROWS + row}, value {column})"


ROWS = 4096  # looked at together, so that what is made for a look stays small


def _pieces(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), ROWS):
        yield images[start : start + ROWS]


def _remedy(low: float, high: float) -> str:
    if low >= 0 and high <= 255:
        return "divide by 255" if high > 16 else f"divide by their largest possible value ({high:g}?)"
    return "take (x + 1) / 2" if low >= -1 - ROUNDING and high <= 1 + ROUNDING else "scale them"
