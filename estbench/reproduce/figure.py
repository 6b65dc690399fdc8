"""The figure of a card: what was measured, with its interval, over what theory or the paper says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from estbench.report.figures.picture import Picture
from estbench.report.figures.style import INK, WIDTH, legend_handles, looks, plain, settings, text_width

HEIGHT = 2.7  # inches of a row of panels
ACROSS = 3  # panels, at most
SAMPLE = 0.65  # inches that a legend's line takes, with the room around it
LEGEND_ROW = 0.22  # inches
DECADES = 20  # a logarithmic axis over less than this has hardly a label


def draw(outcome: dict[str, Any]) -> Picture | None:
    """A panel for each value of ``panel``, a line for each series; nothing for a card without points."""
    frame = pd.DataFrame(outcome["points"])
    if frame.empty:
        return None
    card = outcome["card"]
    with settings():
        figure = _figure(frame, outcome["axes"], outcome["log_axes"])
    theory = " Dashes: what theory says." if "expected" in frame and bool(frame["expected"].notna().any()) else ""
    return Picture(
        name=card["name"],
        kind="reproduction",
        title=card["claim"],
        alt=f"{card['claim']} Series: {', '.join(map(str, frame['series'].unique()))}.",
        caption=f"{card['computed']} Points: measured; bars: 95 % intervals.{theory}",
        reading=f"Paper: {card['paper']}, {card['where']}.",
        figure=figure,
        data=frame,
    )


def _figure(frame: pd.DataFrame, labels: tuple[str, str], logs: tuple[bool, bool]) -> Figure:
    panels = list(dict.fromkeys(frame["panel"]))
    rows = math.ceil(len(panels) / ACROSS)
    columns = math.ceil(len(panels) / rows)  # 2 x 2, not 3 and 1
    chosen = looks(dict.fromkeys(frame["series"]))
    legend_columns = _legend_columns(list(chosen))
    legend_rows = math.ceil(len(chosen) / legend_columns)
    figure = Figure(figsize=(WIDTH, HEIGHT * rows + 0.3 + LEGEND_ROW * legend_rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        mine = frame[frame["panel"] == panels[place]]
        for label, unordered in mine.groupby("series", sort=False):
            look, points = chosen[str(label)], unordered.sort_values("x")
            below = (points["value"] - points["low"]).clip(lower=0).fillna(0)
            above = (points["high"] - points["value"]).clip(lower=0).fillna(0)
            axes.errorbar(
                points["x"],
                points["value"],
                yerr=[below, above],
                color=look.colour,
                marker=look.marker,
                linestyle=look.linestyle if "expected" not in points or points["expected"].isna().all() else "none",
                markersize=3.5,
                elinewidth=1.0,
            )
            if "expected" in points and points["expected"].notna().any():
                axes.plot(points["x"], points["expected"], color=look.colour, linestyle="--", linewidth=1.1)
        axes.set_title(plain(str(panels[place])))
        axes.set_xlabel(plain(labels[0]), color=INK)
        if place % columns == 0:
            axes.set_ylabel(plain(labels[1]), color=INK)
        if logs[0] and mine["x"].min() > 0 and mine["x"].max() > DECADES * mine["x"].min():
            axes.set_xscale("log")
        elif (mine["x"] % 1 == 0).all():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logs[1]:
            axes.set_yscale("log")
    figure.legend(handles=legend_handles(chosen), loc="outside lower center", ncols=legend_columns)
    return figure


def _legend_columns(labels: list[str]) -> int:
    """The most columns, up to four, whose labels fit into the figure's width; a legend is filled column by column."""
    for count in range(min(4, len(labels)), 1, -1):
        if sum(text_width(map(str, column)) + SAMPLE for column in np.array_split(labels, count)) <= WIDTH:
            return count
    return 1
