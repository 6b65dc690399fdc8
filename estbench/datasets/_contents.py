"""The images in a user's file before they are checked: their splits, their shape, and remarks on how they were read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estbench.errors import EstbenchError

Parts = dict[str, NDArray[Any]]
# The words for a split in the names of arrays and folders, and in a column "split".
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
# Words that may stand beside them: x_train, test_images.
FILLERS = {"x", "image", "images", "img", "imgs", "data", "pixels", "input", "inputs"}
LABELS = {"label", "labels", "class", "classes", "target", "targets", "y"}
CHANNELS = (1, 3)
# RandomState, because NumPy guarantees that its streams never change. The order depends only on the number of images.
SPLIT_SEED = 0


@dataclass(frozen=True)
class Contents:
    """Images by split, the train split among them, and remarks for the user.

    ``found`` names the parts of the file, ``left_out`` those that are not used; ``notes`` say how the rest was changed.
    """

    kind: str
    parts: Parts
    found: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def split_named(name: str) -> str | None:
    """Return the split that a name stands for; None if it stands for none.

    >>> split_named("x_train"), split_named("val"), split_named("y_train")
    ('train', 'validation', None)
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and word not in FILLERS]
    return next((split for split, known in WORDS.items() if len(words) == 1 and words[0] in known), None)


def is_label(name: str) -> bool:
    """Whether a name is one of labels and not of images: ``label``, ``y_test``."""
    return not LABELS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def divide(parts: Parts) -> tuple[Parts, str, str]:
    """Return the three splits, a word for how they were made, and the same in a sentence.

    A split that is missing is a tenth of the training images, at least one, in a pseudo-random order that depends on
    nothing but their number.
    """
    missing = [split for split in ("validation", "test") if split not in parts]
    if not missing:
        return parts, "own", "the file has all three splits"
    whole = parts["train"]
    if len(whole) <= len(missing):
        raise EstbenchError(
            f"it has {len(whole)} images for {' and '.join(['train', *missing])}; give at least one for each, "
            "and better some hundreds"
        )
    tenth = max(1, len(whole) // 10)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(whole))
    ends = [len(whole) - tenth * count for count in range(len(missing), 0, -1)]
    chosen = dict(zip(["train", *missing], np.split(order, ends), strict=True))
    word = "random" if len(missing) == 2 else f"random-{missing[0]}"
    each = " each" if len(missing) == 2 else ""
    how = f"{' and '.join(missing)}: a tenth of the training images{each}, in a fixed pseudo-random order"
    return {**parts, **{split: whole[rows] for split, rows in chosen.items()}}, word, how


def to_images(parts: Parts) -> tuple[Parts, tuple[int, ...], list[str]]:
    """Return the parts as (N, H, W) or (N, 3, H, W), the shape of one image, and remarks; (N, D) stays flat."""
    shapes = {split: array.shape[1:] for split, array in parts.items()}
    first, given = next(iter(shapes.items()))
    for split, shape in shapes.items():
        if parts[split].ndim < 2:
            raise EstbenchError(
                f"its {split} images have shape {parts[split].shape}; give one row for each image, (N, D) or (N, H, W)"
            )
        if shape != given:
            raise EstbenchError(
                f"its {first} images are {_by(given)}, and its {split} images are {_by(shape)}; make them agree"
            )
    if 0 in given:
        raise EstbenchError(f"its images are {_by(given)} and have no pixels; give others")
    if len(given) == 1:
        shape, notes = _shape_of_row(given[0])
        return parts, shape, notes
    if len(given) == 2:
        return parts, given, []
    if len(given) == 3 and given[0] in CHANNELS:
        return parts, given[1:] if given[0] == 1 else given, []
    if len(given) == 3 and given[2] in CHANNELS:
        moved = {split: np.moveaxis(array, -1, 1) for split, array in parts.items()}
        height, width, channels = given
        shape = (height, width) if channels == 1 else (channels, height, width)
        return moved, shape, ["the channels stand last and are moved to the front"]
    raise EstbenchError(
        f"its images are {_by(given)}; give (N, H, W), (N, 3, H, W), (N, H, W, 3) or rows of pixels, (N, D)"
    )


def _shape_of_row(size: int) -> tuple[tuple[int, ...], list[str]]:
    """Return the shape of images that are rows of numbers: a square, three squares, or else one row."""
    side = math.isqrt(size)
    if side * side == size:
        return (side, side), [f"rows of {size} values are taken as {side}x{side} images"]
    side = math.isqrt(size // 3)
    if 3 * side * side == size:
        note = (
            f"rows of {size} values are taken as red, green and blue of {side}x{side}, one after the other; if the "
            "three colours of a pixel stand together, give (N, H, W, 3)"
        )
        return (3, side, side), [note]
    return (1, size), [f"rows of {size} values are no square, and are taken as 1x{size} images"]


def list_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Return a line for each array: its name, shape and type."""
    return tuple(f"{name}: {_by(array.shape) or 'a single number'}, {array.dtype}" for name, array in arrays.items())


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
