"""The figure of a card: what was measured, with its interval, and what theory or the paper says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Legend
from estbench.report.figures.style import INK, WIDTH, line_styles, matplotlib_style, matplotlib_text, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle

HEIGHT = 2.7  # inches of a row of panels
ACROSS = 3  # panels, at most
SAMPLE = 0.65  # inches that a legend's line takes, with the room around it
LEGEND_ROW = 0.22  # inches
DECADES = 20  # a logarithmic axis over less than this has hardly a label


def draw(outcome: dict[str, Any]) -> RenderedFigure | None:
    """Draw a panel for each value of ``panel`` and a line for each series; return None for a card without points."""
    frame = pd.DataFrame(outcome["points"])
    if frame.empty:
        return None
    card = outcome["card"]
    theory = " Dashes: what theory says." if "expected" in frame and bool(frame["expected"].notna().any()) else ""
    with matplotlib_style():
        return draw_panels(frame, outcome["axes"], outcome["log_axes"]).finish(
            name=card["name"],
            title=card["claim"],
            alt=f"{card['claim']} Series: {', '.join(map(str, frame['series'].unique()))}.",
            caption=f"{card['computed']} Points: measured; bars: 95 % intervals.{theory}",
            reading=f"Paper: {card['paper']}, {card['where']}.",
            data=frame,
        )


def draw_panels(frame: pd.DataFrame, labels: tuple[str, str], logs: tuple[bool, bool]) -> Canvas:
    """Draw the points of a card.

    Parameters
    ----------
    frame
        One row per point: ``panel``, ``series``, ``x``, ``value``, ``low``, ``high`` and, if known, ``expected``.
    labels, logs
        Of the x axis and the y axis: what they are called, and whether they are logarithmic.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    rows = math.ceil(len(panels) / ACROSS)
    columns = math.ceil(len(panels) / rows)  # 2 x 2, not 3 and 1
    styles = line_styles(dict.fromkeys(frame["series"]))
    legend = Legend(styles, _legend_columns(list(styles)), row=LEGEND_ROW)
    canvas = Canvas.grid(HEIGHT * rows + 0.3 + legend.height, rows, columns, margins=None, legend=legend)
    for place, axes in enumerate(canvas.panels.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        points = frame[frame["panel"] == panels[place]]
        for label, of_series in points.groupby("series", sort=False):
            _draw_series(axes, of_series.sort_values("x"), styles[str(label)])
        axes.set_title(matplotlib_text(str(panels[place])))
        axes.set_xlabel(matplotlib_text(labels[0]), color=INK)
        if place % columns == 0:
            axes.set_ylabel(matplotlib_text(labels[1]), color=INK)
        if logs[0] and points["x"].min() > 0 and points["x"].max() > DECADES * points["x"].min():
            axes.set_xscale("log")
        elif (points["x"] % 1 == 0).all():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logs[1]:
            axes.set_yscale("log")
    return canvas


def _draw_series(axes: Axes, points: pd.DataFrame, style: LineStyle) -> None:
    below = (points["value"] - points["low"]).clip(lower=0).fillna(0)
    above = (points["high"] - points["value"]).clip(lower=0).fillna(0)
    expected = "expected" in points and bool(points["expected"].notna().any())
    axes.errorbar(
        points["x"],
        points["value"],
        yerr=[below, above],
        color=style.colour,
        marker=style.marker,
        linestyle="none" if expected else style.linestyle,
        markersize=3.5,
        elinewidth=1.0,
    )
    if expected:
        axes.plot(points["x"], points["expected"], color=style.colour, linestyle="--", linewidth=1.1)


def _legend_columns(labels: list[str]) -> int:
    """Return the most columns, up to four, whose labels fit into the width; a legend is filled column by column."""
    for count in range(min(4, len(labels)), 1, -1):
        if sum(text_width(map(str, column)) + SAMPLE for column in np.array_split(labels, count)) <= WIDTH:
            return count
    return 1
