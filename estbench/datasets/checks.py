"""The checks and the conversion of the arrays that a registered function returns, done once before anything is run.

The rules hold for the three splits together:

* booleans, and integers that are all 0 or 1, are used as they are;
* other unsigned bytes are divided by 255; other integers are refused, because their largest possible value is unknown;
* floating-point numbers of any precision must lie in [0, 1]; those outside by rounding are set to the nearest end;
* images may be flat, (N, H, W) or (N, C, H, W), in agreement with ``shape``; every split has at least one.

The result has single precision, and is flat, contiguous and writable. An array is copied only if this is necessary.
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
# Largest distance from [0, 1] that is taken for rounding: in half precision, and after resizing.
ROUNDING = 1e-3
# Bytes that are all below this are not intensities, but labels or counts.
DARK = 32
# Largest size of a split in memory, in single precision.
MOST_BYTES = 2**35


def check_splits(raw: dict[str, Any], shape: Any, *, static: bool) -> dict[str, NDArray[np.float32]]:
    """Return the splits by name, each (N, D) in [0, 1]; raise ``EstbenchError`` if they break a rule of this module.

    ``static`` says that the images are binarised, so that all values must be 0 or 1.
    """
    size = _count_pixels(shape)
    flat = {split: _flatten(_to_array(raw[split], split), split, shape, size) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        if _overlap(flat[one], flat[other]):
            raise EstbenchError(f"its {one} and {other} splits are the same memory; give each its own images")
    binary = all(_is_binary(images) for images in flat.values() if images.dtype.kind in "iu")
    splits = {split: _to_intensities(images, split, binary=binary) for split, images in flat.items()}
    train = splits["train"]
    if train.min() == train.max():
        raise EstbenchError(
            f"its train split is {train.min():g} everywhere, so there is nothing to learn; check its files"
        )
    if static:
        for split, images in splits.items():
            if not _is_binary(images):
                raise EstbenchError(
                    f"its binarisation is 'static', and its {split} split has values between 0 and 1; "
                    "round them, or register it with binarisation='dynamic'"
                )
    return splits


def _count_pixels(shape: Any) -> int:
    if not (
        isinstance(shape, tuple | list)
        and len(shape) in {2, 3}
        and all(isinstance(each, int | np.integer) and not isinstance(each, bool) and each > 0 for each in shape)
    ):
        raise EstbenchError(f"its shape is {shape!r}; give an image's (height, width), or (channels, height, width)")
    return math.prod(map(int, shape))


def _to_array(given: Any, split: str) -> NDArray[Any]:
    """Return an array of numbers for an array, a tensor, a list or a data frame."""
    if given is None:
        raise EstbenchError(f"its {split} split is missing; take some of the training images for it")
    if hasattr(given, "toarray"):
        raise EstbenchError(f"its {split} split is a sparse matrix; give {split}.toarray()")
    if hasattr(given, "detach"):  # a tensor on any device; NumPy has no bfloat16
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()
    if np.ma.is_masked(given):
        raise EstbenchError(f"its {split} split has masked values; fill them, or remove those images")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise EstbenchError(f"its {split} split is no array of numbers: {error}; give one of shape (N, D)") from None
    if array.dtype.kind not in "biuf":
        raise EstbenchError(
            f"its {split} split is of type {array.dtype}; give floating-point numbers in [0, 1], bytes or booleans"
        )
    return array


def _flatten(array: NDArray[Any], split: str, shape: tuple[int, ...], size: int) -> NDArray[Any]:
    """Return an array of images of this shape as (N, D); a view if possible."""
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
            f"its {split} split would take {count * size * 4 / 2**30:,.0f} GiB of memory, and the limit is "
            f"{MOST_BYTES // 2**30}; give fewer images"
        )
    return array.reshape(count, size)


def _without_ones(shape: Any) -> list[int]:
    return [int(each) for each in shape if each != 1]


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays share memory; no if that is too hard to find out."""
    try:
        return np.shares_memory(one, other, max_work=1000)  # type: ignore[arg-type]  # a bound, which the stubs lack
    except np.exceptions.TooHardError:
        return False


def _to_intensities(images: NDArray[Any], split: str, *, binary: bool) -> NDArray[np.float32]:
    kind = images.dtype.kind
    if kind == "b":
        return np.array(images, np.float32, order="C")
    if kind in "iu":
        return _scale_integers(images, split, binary=binary)
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise EstbenchError(
            f"its {split} split has {', '.join(describe_not_finite(images))}; fill them, or remove those images"
        )
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise EstbenchError(
            f"its {split} split goes from {low:g} to {high:g}, and intensities are in [0, 1]; "
            f"{_suggest_scaling(low, high)}"
        )
    # A read-only array makes torch warn, a strided one is slow, and a mapped one is a file: they are copied.
    usable = images.dtype == np.float32 and images.flags.c_contiguous and images.flags.writeable
    floats = images if usable and not _is_mapped(images) else np.array(images, np.float32, order="C")
    return np.clip(floats, 0, 1, dtype=np.float32) if low < 0 or high > 1 else np.asarray(floats)


def _is_mapped(images: Any) -> bool:
    """Whether an array is a file mapped into memory: to change the array would change the file."""
    while images is not None and not isinstance(images, np.memmap):
        images = getattr(images, "base", None)
    return images is not None


def _scale_integers(images: NDArray[Any], split: str, *, binary: bool) -> NDArray[np.float32]:
    if not binary:
        low, high = int(images.min()), int(images.max())
        if images.dtype != np.uint8:
            raise EstbenchError(
                f"its {split} split has integers from {low} to {high}; divide them by the largest possible value, "
                "or give bytes (uint8), which are divided by 255"
            )
        if high < DARK and not _is_binary(images):
            raise EstbenchError(
                f"its {split} split has bytes from {low} to {high}, and the range of bytes is 0 to 255; "
                "divide them by the largest possible value"
            )
    floats = np.array(images, np.float32, order="C")
    if not binary:
        floats /= 255
    return floats


def _is_binary(images: NDArray[Any]) -> bool:
    return all(bool(((rows == 0) | (rows == 1)).all()) for rows in _split_rows(images))


def describe_not_finite(images: NDArray[Any]) -> Iterator[str]:
    """Yield how many NaN and infinite values flat images, (N, D), have, and where the first ones are."""
    for name, test in (("NaN", np.isnan), ("infinite values", np.isinf)):
        counts = [np.count_nonzero(test(rows)) for rows in _split_rows(images)]
        if sum(counts):
            part = next(index for index, count in enumerate(counts) if count)
            row, column = np.argwhere(test(list(_split_rows(images))[part]))[0]
            yield f"{sum(counts):,} {name} (the first in image {part * ROWS + row}, value {column})"


ROWS = 4096  # that are tested at a time, so that the temporary arrays stay small


def _split_rows(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), ROWS):
        yield images[start : start + ROWS]


def _suggest_scaling(low: float, high: float) -> str:
    if low >= 0 and high <= 255:
        return "divide by 255" if high > 16 else f"divide by their largest possible value ({high:g}?)"
    return "take (x + 1) / 2" if low >= -1 - ROUNDING and high <= 1 + ROUNDING else "scale them"
