"""Labels beside the curves that they name, moved apart where they would overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from matplotlib.lines import Line2D

from estbench.report.figures.style import FONT, INK, mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle


class Label(NamedTuple):
    """A direct label: its curve's end, as a share of the height of the axes, and its text."""

    height: float
    text: str
    style: LineStyle


def avoid_overlap(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return heights near the wanted ones (ascending) at which things of the given sizes do not overlap.

    Heights and sizes are shares of the height of the axes; no height is above 1.
    """
    placed: list[float] = []
    for at, height in enumerate(wanted):
        floor = placed[-1] + (sizes[at - 1] + sizes[at]) / 2 if placed else 0.0
        placed.append(max(height, floor))
    ceiling = 1.0
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], ceiling)
        if at:
            ceiling = placed[at] - (sizes[at - 1] + sizes[at]) / 2
    return placed


def draw_labels(axes: Axes, labels: Sequence[Label], height: float) -> None:
    """Write labels to the right of the axes (``height`` inches tall), each with a sample of its line."""
    ordered = sorted(labels, key=lambda label: label.height)
    sizes = [(label.text.count("\n") + 1.15) * FONT * 1.3 / 72 / height for label in ordered]
    places = avoid_overlap([min(max(label.height, 0.0), 1.0) for label in ordered], sizes)
    for label, at in zip(ordered, places, strict=True):
        style = label.style
        drawn: list[Artist] = []
        if 0.0 <= label.height <= 1.0:
            drawn.append(_line(axes, [1.005, 1.03], [label.height, at], color=style.colour, linewidth=0.7, alpha=0.7))
        drawn.append(_line(axes, [1.035, 1.105], [at, at], color=style.colour, linestyle=style.linestyle))
        drawn.append(_line(axes, [1.07], [at], color=style.colour, marker=style.marker))
        text = axes.text(
            1.12,
            at,
            label.text,
            transform=axes.transAxes,
            va="center",
            ha="left",
            color=INK,
            fontsize=FONT - 0.5,
        )
        mark([*drawn, text], style)


def _line(axes: Axes, x: list[float], y: list[float], **options: object) -> Line2D:
    return axes.add_line(Line2D(x, y, transform=axes.transAxes, clip_on=False, **options))  # type: ignore[arg-type]
