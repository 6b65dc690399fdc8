"""Pictures of the trained models: reconstructions, samples and maps, a row for each estimator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from estbench.errors import EstbenchError
from estbench.report.analysis.frames import done
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, label_margin
from estbench.report.figures.style import is_narrow, mark, wrap_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Images = dict[str, "NDArray[np.uint8]"]  # by kind: (N, H, W), or (N, H, W, 3)

SHOWN = 8  # reconstructions, and as many samples
# The most pixels on a side that a picture is drawn with; larger ones are shown by every second, third, ... pixel.
LARGEST = 64


@register_figure(section="pictures")
def draw_pictures(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw, for one problem, the first test images, what each model makes of them, and samples from each model."""
    images, seed = _find_images(source)
    if not images:
        return
    shown = SHOWN // 2 if is_narrow() else SHOWN
    originals = next(iter(images.values()))["original"][:shown]
    rows = {"test images": (originals, None)} | {
        label: (kinds["reconstruction"][:shown], kinds["sample"][:shown]) for label, kinds in images.items()
    }
    names = {label: wrap_label(label) for label in rows}
    left = label_margin(names.values())
    canvas = Canvas.grid(
        0.5 + 0.36 * len(rows), len(rows), 2, margins=Margins(left, 0.01, 0.3, 0.05), gaps=(0.04, 0.08), keep_rows=True
    )
    for line, (label, (reconstructed, sampled)) in zip(canvas.panels, rows.items(), strict=True):
        for axes, strip in zip(line, (reconstructed, sampled), strict=True):
            _show(axes, strip, source, label)
        line[0].set_ylabel(names[label], rotation=0, ha="right", va="center")
        if label in source.styles:
            mark([line[0].yaxis.label], source.styles[label])
    height, width = _join(originals).shape[:2]
    # Empty, with its heading as high as that beside it, and from the left edge on.
    canvas.panels[0, 1].set(box_aspect=height / width, anchor="W")
    canvas.panels[0, 0].set_title("reconstructions")
    canvas.panels[0, 1].set_title("samples")
    yield canvas.finish(
        name="pictures",
        title="Reconstructions and samples",
        chart="Grid of images",
        alt=f"For each of {', '.join(images)}: reconstructions of {len(originals)} test images, and samples.",
        caption=f"From the runs of seed {seed}. Left: the same test images and, below, the mean image of one draw from "
        "q(z|x). Right: mean images of latents from the prior, drawn with the same random numbers for all models.",
        reading="How to read it: reconstructions that all look alike say that the latents carry nothing.",
        data=_levels(images),
    )


@register_figure(section="pictures", order=12)
def draw_maps(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the mean images over the plane of two latents, a panel for each estimator."""
    images, seed = _find_images(source)
    images = {label: kinds for label, kinds in images.items() if "map" in kinds}
    if not images:
        return
    columns = min(3, len(images))
    rows = math.ceil(len(images) / columns)
    canvas = Canvas.grid(0.2 + 2.6 * rows, rows, columns, margins=Margins(0.02, 0.02, 0.25, 0.05), gaps=(0.06, 0.14))
    for axes, (label, kinds) in zip(canvas.places, images.items(), strict=False):
        tiles = kinds["map"]
        side = math.isqrt(len(tiles))
        _draw_tiles(axes, [_join(tiles[at * side : (at + 1) * side]) for at in range(side)])
        axes.set_title(wrap_label(label, 34))
        mark([axes.title], source.styles[label])
    for axes in canvas.places[len(images) :]:
        axes.set_axis_off()
    yield canvas.finish(
        name="latent_map",
        title="The plane of the two latents",
        chart="Grids of images",
        alt=f"Mean images over the plane of two latents, for {', '.join(images)}.",
        caption=f"From the runs of seed {seed}. Mean images on a grid of the two latents, each at a place of the "
        "same probability under the prior.",
        reading="How to read it: neighbours that change smoothly, and all kinds of images somewhere, show that both "
        "latents are in use.",
        data=_levels(images),
    )


def _find_images(source: FigureSource) -> tuple[dict[str, Images], int]:
    """Return the pictures of one seed by estimator, and the seed: the lowest that most finished estimators have."""
    results = source.analysis.results
    frame = results.pictures
    if frame.empty:
        return {}, 0
    cells = done(source.analysis.cells)
    frame = frame[frame["problem"] == source.problem].merge(cells[["problem", "estimator", "seed"]].drop_duplicates())
    if frame.empty:
        return {}, 0
    counts = frame.groupby("seed")["estimator"].nunique()
    seed = int(counts[counts == counts.max()].index.min())
    frame = frame[frame["seed"] == seed]
    found: dict[str, Images] = {}
    for label in source.styles:
        of_label = frame[frame["estimator"] == label]
        kinds = {str(kind): _read(rows, results.path) for kind, rows in of_label.groupby("kind")}
        if {"original", "reconstruction", "sample"} <= kinds.keys():
            found[label] = kinds
    return found, seed


def _read(rows: pd.DataFrame, path: Any) -> NDArray[np.uint8]:
    """Return pictures as an array; raise ``EstbenchError`` if their bytes are not those of images."""
    try:
        (shape,) = {tuple(int(side) for side in str(shape).split("x")) for shape in rows["shape"]}
        channels, height, width = shape if len(shape) == 3 else (1, *shape)
        size = {1: (height, width), 3: (3, height, width)}[channels]
        images = np.stack([np.frombuffer(row, np.uint8).reshape(size) for row in rows.sort_values("number")["pixels"]])
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise EstbenchError(f"cannot read the pictures in '{path}': {error}; run again to recompute them") from None
    if channels == 3:
        images = images.transpose(0, 2, 3, 1)
    every = math.ceil(max(images.shape[1:3]) / LARGEST)
    return images[:, ::every, ::every]


def _show(axes: Axes, images: NDArray[np.uint8] | None, source: FigureSource, label: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if images is None:
        return
    before = set(axes.get_children())
    _draw_tiles(axes, [_join(images)])
    if label in source.styles:
        mark([artist for artist in axes.get_children() if artist not in before], source.styles[label])


def _draw_tiles(axes: Axes, rows: list[NDArray[np.uint8]]) -> None:
    """Draw rows of joined images, dark ink on white paper."""
    whole = np.concatenate(rows, axis=0)
    shown = whole if whole.ndim == 3 else 255 - whole
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="equal")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _join(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images side by side."""
    return np.concatenate(list(images), axis=1)


def _levels(images: dict[str, Images]) -> pd.DataFrame:
    """Return the mean and the standard deviation of the pixels of every picture, as a table for programs."""
    return pd.DataFrame(
        [
            {"estimator": label, "kind": kind, "number": number, "mean": image.mean() / 255, "sd": image.std() / 255}
            for label, kinds in images.items()
            for kind, batch in kinds.items()
            for number, image in enumerate(batch)
        ]
    )
