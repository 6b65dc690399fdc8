"""The figure of a card: what was measured, with its interval, and what theory or the paper says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Legend
from estbench.report.figures.style import (
    INK,
    SOFT,
    WIDTH,
    LineStyle,
    line_styles,
    matplotlib_style,
    matplotlib_text,
    text_width,
)
from estbench.reproduce.studies import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.reproduce.card_result import CardResult
    from estbench.reproduce.studies import StudyResult

HEIGHT = 2.7  # inches of a row of panels
ACROSS = 3  # panels, at most
TICKS = {1: 8, 2: 5, 3: 4}  # of an x axis, at most, by the panels across
SAMPLE = 0.65  # inches that a legend's line takes, with the room around it
LEGEND_ROW = 0.22  # inches
# A logarithmic axis over a smaller factor has hardly a label, or only such as 9 x 10^-1: it is drawn as a linear one.
SMALLEST_X, SMALLEST_Y = 20, 10


def draw(result: CardResult) -> RenderedFigure | None:
    """Draw a panel for each value of ``panel`` and a line for each series; return None for a card without points."""
    if result.measured is None or not result.measured.points:
        return None
    frame, card = pd.DataFrame(result.measured.points), result.card
    with matplotlib_style():
        return draw_panels(frame, result.measured).finish(
            name=card.name,
            title=card.claim,
            alt=f"{card.claim} Panels: {_list(frame['panel'])}. Series: {_list(frame['series'])}.",
            caption=_explain(frame, result.measured),
            reading="",
            data=frame,
        )


def draw_panels(frame: pd.DataFrame, measured: StudyResult) -> Canvas:
    """Draw the points of a card.

    Parameters
    ----------
    frame
        One row per point: ``panel``, ``series``, ``x``, ``value``, ``low``, ``high`` and, if known, ``expected``.
    measured
        The result that they are of, which says what the axes are called and which of them are logarithmic.
    """
    kinds = {name: _panel(str(name), measured) for name in dict.fromkeys(frame["panel"])}
    rows = math.ceil(len(kinds) / ACROSS)
    columns = math.ceil(len(kinds) / rows)  # 2 x 2, not 3 and 1
    styles = line_styles(dict.fromkeys(frame["series"]))
    level = LineStyle(SOFT, "", "", len(styles))
    named = styles | {kind.level_name: level for kind in kinds.values() if kind.level is not None and kind.level_name}
    legend = Legend(named, _legend_columns(list(named)), row=LEGEND_ROW)
    canvas = Canvas.grid(HEIGHT * rows + 0.3 + legend.height, rows, columns, margins=None, legend=legend)
    own_labels = len({kind.label for kind in kinds.values()}) > 1
    places = list(canvas.panels.flat)
    for axes in places[len(kinds) :]:
        axes.set_visible(False)
    for place, (axes, (name, kind)) in enumerate(zip(places, kinds.items(), strict=False)):
        points = frame[frame["panel"] == name]
        if kind.level is not None:
            axes.axhline(kind.level, color=level.colour)
        for label, of_series in points.groupby("series", sort=False):
            _draw_series(axes, of_series.sort_values("x"), styles[str(label)])
        axes.set_title(matplotlib_text(str(name)))
        axes.set_xlabel(matplotlib_text(measured.axes[0]), color=INK)
        if own_labels or place % columns == 0:
            axes.set_ylabel(matplotlib_text(kind.label), color=INK)
        if kind.log and points["value"].max() > SMALLEST_Y * abs(points["value"].min()):
            axes.set_yscale("log")
        _scale_x(axes, points["x"], log=measured.log_axes[0], ticks=TICKS[columns])
    return canvas


def _panel(name: str, measured: StudyResult) -> Panel:
    """Return what is said of a panel by itself, or else of all of them."""
    return measured.panels.get(name, Panel(label=measured.axes[1], log=measured.log_axes[1]))


def _scale_x(axes: Axes, x: pd.Series[float], *, log: bool, ticks: int) -> None:
    """Make an axis logarithmic if it spans enough for labels; else give it few enough ticks that none touch."""
    if log and x.min() > 0 and x.max() > SMALLEST_X * x.min():
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], integer=bool((x % 1 == 0).all())))


def _draw_series(axes: Axes, points: pd.DataFrame, style: LineStyle) -> None:
    below = (points["value"] - points["low"]).clip(lower=0).fillna(0)
    above = (points["high"] - points["value"]).clip(lower=0).fillna(0)
    expected = "expected" in points and bool(points["expected"].notna().any())
    axes.errorbar(
        points["x"],
        points["value"],
        yerr=np.stack([below, above]),
        color=style.colour,
        marker=style.marker,
        linestyle="none" if expected else style.linestyle,
        markersize=4.5,
        markerfacecolor="none",  # lines that lie on each other are seen by their markers
        elinewidth=1.0,
    )
    if expected:
        axes.plot(points["x"], points["expected"], color=style.colour, linestyle="--", linewidth=1.1)


def _explain(frame: pd.DataFrame, measured: StudyResult) -> str:
    """Say what is drawn: bars and dashes only where there are some."""
    said = ["Markers: measured."]
    if bool((frame["high"] > frame["low"]).any()):
        said.append(f"Bars: {measured.bars}.")
    if "expected" in frame and bool(frame["expected"].notna().any()):
        said.append("Dashes: what theory says.")
    return " ".join(said)


def _list(names: pd.Series[str]) -> str:
    return ", ".join(map(str, dict.fromkeys(names)))


def _legend_columns(labels: list[str]) -> int:
    """Return the most columns, up to four, whose labels fit into the width; a legend is filled column by column."""
    for count in range(min(4, len(labels)), 1, -1):
        if sum(text_width(map(str, column)) + SAMPLE for column in np.array_split(labels, count)) <= WIDTH:
            return count
    return 1
