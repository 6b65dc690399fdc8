"""The scaffold of every figure: its size in inches, its legend, the points that can be read, and its end.

A figure makes a ``Canvas``, draws on its panels, and calls ``finish`` with its words and its data::

    canvas = Canvas.single(3.4, Margins(left=0.12, right=0.03, top=0.2, bottom=0.55))
    (axes,) = canvas.places
    with belongs_to(axes, style):
        axes.plot(x, y, color=style.colour)
    canvas.add_points(axes, style, [(x, y, f"step {x}: {y} nats") for x, y in zip(xs, ys)])
    return canvas.finish(name="my_figure", title="My figure", chart="Line chart", alt="...", ...)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from estbench.report.figures.rendered import Box, RenderedFigure, Series
from estbench.report.figures.style import (
    WIDTH,
    figure_width,
    mark,
    matplotlib_text,
    text_width,
    write_plain_powers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from estbench.report.figures.style import LineStyle

MOST_MARGIN = 0.55  # of the width, in a figure that is narrower than the page
LEAST_PANEL = 1.5  # inches: panels that would be narrower stand below each other
BETWEEN = 0.75  # inches between panels that stand below each other for lack of room
Point = tuple[float, float, str]  # x and y in the data's units, and the words


class Margins(NamedTuple):
    """The room between the panels and the edges of the figure; the legend has its own."""

    left: float  # a share of the page's width
    right: float  # a share of the page's width
    top: float  # inches
    bottom: float  # inches

    def fit(self, planned: float, width: float) -> Margins:
        """Return margins of as many inches, if that leaves room, for a figure of another width than was planned."""
        scale, share = planned / width, self.left + self.right
        if share:
            scale = min(scale, max(1.0, MOST_MARGIN / share))
        return self._replace(left=self.left * scale, right=self.right * scale)


class Legend(NamedTuple):
    """Samples of lines with their labels, above or below the panels."""

    styles: dict[str, LineStyle]
    columns: int
    above: bool = False
    row: float = 0.24  # inches
    padding: float = 0.0  # inches

    @property
    def height(self) -> float:
        """The inches that it takes."""
        return self.padding + self.row * math.ceil(len(self.styles) / self.columns)


def legend_above(styles: dict[str, LineStyle]) -> Legend:
    """Return a legend above the panels, with as many columns as the widest label leaves room for, up to four."""
    columns = max(1, min(4, int((figure_width() - 0.5) / (text_width(styles) + 0.85))))
    return Legend(styles, columns, above=True, row=0.19, padding=0.12)


def legend_below(styles: dict[str, LineStyle]) -> Legend:
    """Return a legend below the panels, in three columns, or as many as fit."""
    return Legend(styles, columns=max(1, min(3, int(figure_width() / (text_width(styles) + 0.7)))))


class Canvas:
    """A figure of the page's width: panels, a legend, and the points that the page reads out."""

    def __init__(self, figure: Figure, panels: NDArray[Any], count: int) -> None:
        self.figure = figure
        self.panels = panels  # axes, in rows and columns
        self.places = list(panels.flat)[:count]  # the axes that were asked for, in reading order
        for spare in list(panels.flat)[count:]:
            spare.set_axis_off()
        self._points: list[tuple[Axes, LineStyle, list[Point]]] = []

    @classmethod
    def single(
        cls,
        height: float,
        margins: Margins,
        panel_height: float | None = None,
        *,
        width: float | None = None,
        legend: Legend | None = None,
    ) -> Canvas:
        """Return a canvas with one panel.

        Parameters
        ----------
        height
            Inches of the whole figure.
        margins
            The room around the panel.
        panel_height
            Inches of the panel; what the margins leave if not given.
        width
            Inches of the whole figure, at most; as wide as figures are drawn if not given.
        legend
            A legend below the panel, for which the figure gets higher; None for a figure without one.
        """
        planned, width = (WIDTH, figure_width()) if width is None else (width, min(width, figure_width()))
        margins = margins.fit(planned, width)
        share = 1 - (margins.top + margins.bottom) / height if panel_height is None else panel_height / height
        below = 0.0 if legend is None else legend.height
        figure = Figure(figsize=(width, height + below))
        if legend is not None:
            _draw_legend(figure, legend, outside=False)
        scale = height / (height + below)
        bottom = (margins.bottom + below) / (height + below)
        axes = figure.add_axes((margins.left, bottom, 1 - margins.right - margins.left, share * scale))
        return cls(figure, np.array([[axes]]), 1)

    @classmethod
    def grid(
        cls,
        height: float,
        rows: int = 1,
        columns: int = 1,
        *,
        margins: Margins | None,
        gaps: tuple[float | None, float | None] = (None, None),
        share_y: bool = False,
        legend: Legend | None = None,
        keep_rows: bool = False,
    ) -> Canvas:
        """Return a canvas with panels in rows and columns.

        A figure narrower than the page has fewer columns and more rows, of as many panels or a few more.

        Parameters
        ----------
        height
            Inches of the whole figure, the legend's included.
        rows, columns
            How many panels there are below and beside each other.
        margins
            The room around the panels; None if matplotlib fits them (its constrained layout).
        gaps
            The room between columns and between rows, as shares of a panel's width and height; None for matplotlib's.
        share_y
            Whether panels beside each other have the same y axis.
        legend
            The legend; None for a figure without one.
        keep_rows
            Whether the panels of a row stay beside each other however narrow the figure is.
        """
        above, below = 0.0, 0.0
        if legend is not None:
            above, below = (legend.height, 0.0) if legend.above else (0.0, legend.height)
        margins = margins and margins.fit(WIDTH, figure_width())
        room = figure_width() * (1 - (margins.left + margins.right if margins else 0.1))
        count = rows * columns
        whole = keep_rows or figure_width() >= WIDTH
        across = columns if whole else max(1, min(columns, int(room / LEAST_PANEL)))
        if across < columns:
            fixed = above + below + (margins.top + margins.bottom if margins else 0.0)
            high = (height - fixed) / rows
            down = math.ceil(count / across)
            height = fixed + down * high + (down - 1) * BETWEEN
            rows, columns, gaps = down, across, (gaps[0], BETWEEN / high)
        figure = Figure(figsize=(figure_width(), height), layout="constrained" if margins is None else None)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
        if legend is not None:
            _draw_legend(figure, legend, outside=margins is None)
        if margins is not None:
            figure.subplots_adjust(
                left=margins.left,
                right=1 - margins.right,
                top=1 - (above + margins.top) / height,
                bottom=(margins.bottom + below) / height,
                wspace=gaps[0],
                hspace=gaps[1],
            )
        return cls(figure, panels, count)

    def add_points(self, axes: Axes, style: LineStyle, points: Iterable[Point]) -> None:
        """Let the page read points of one estimator, in this order; those outside the axes are left out."""
        self._points.append((axes, style, list(points)))

    def finish(
        self, *, name: str, title: str, chart: str = "", alt: str, caption: str, reading: str, data: pd.DataFrame
    ) -> RenderedFigure:
        """Return the finished figure; limits of axes must not change after this.

        Parameters
        ----------
        name
            What its files are called.
        chart, alt
            The kind of chart, and what it shows: together the alternative text.
        caption, reading
            What is drawn, and how to read it.
        data
            The numbers that are drawn, for the CSV file.
        """
        panels = list(dict.fromkeys(axes for axes, _, _ in self._points))
        for axes in self.figure.axes:
            write_plain_powers(axes)
        return RenderedFigure(
            name=name,
            title=title,
            alt=f"{chart}. {alt}" if chart else alt,
            caption=caption,
            reading=reading,
            figure=self.figure,
            data=data,
            series=tuple(
                each
                for axes, style, points in self._points
                for each in self._locate(axes, style, points, panels.index(axes))
            ),
            boxes=tuple(self._box(axes, curves="ine chart" in chart) for axes in panels),
        )

    def _box(self, axes: Axes, *, curves: bool) -> Box:
        width, height = self.figure.get_size_inches() * 72
        area = axes.get_position()
        ends = (area.x0 * width, height - area.y1 * height, area.x1 * width, height - area.y0 * height)
        left, top, right, bottom = (round(float(end), 1) for end in ends)
        return Box(left, top, right, bottom, curves)

    def _locate(self, axes: Axes, style: LineStyle, points: Iterable[Point], panel: int) -> list[Series]:
        """Return where points are drawn in the finished figure, without those outside the axes."""
        _ = axes.viewLim  # what was drawn moves the limits only when they are asked for
        height, scale = self.figure.get_size_inches()[1] * 72, 72 / self.figure.dpi
        located = []
        for x, y, words in points:
            at = axes.transData.transform((x, y))
            across, up = axes.transAxes.inverted().transform(at)
            if -0.01 <= across <= 1.01 and -0.01 <= up <= 1.01:
                located.append((round(float(at[0]) * scale, 1), round(height - float(at[1]) * scale, 1), words))
        return [Series(style.place, tuple(located), panel)] if located else []


def text_margin(texts: Iterable[str], room: float, width: float = WIDTH) -> float:
    """Return the share of the width that texts in a margin take, with so many inches of room."""
    return (text_width(texts) + room) / width


def label_margin(names: Iterable[str], width: float = WIDTH) -> float:
    """Return the share of the width for labels of rows at the left, at most 0.4."""
    return min(0.4, text_margin(names, 0.2, width))


def show_rows(axes: Axes) -> None:
    """Make a y axis of named rows: no grid lines across, no tick marks."""
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def mark_row_labels(axes: Axes, styles: Iterable[LineStyle]) -> None:
    """Mark the labels of rows as those of the estimators, from the first tick to the last."""
    for name, style in zip(axes.get_yticklabels(), styles, strict=True):
        mark([name], style)


def _draw_legend(figure: Figure, legend: Legend, *, outside: bool) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=style.colour,
            linestyle=style.linestyle,
            marker=style.marker,
            label=f" {matplotlib_text(label)}",
        )
        for label, style in legend.styles.items()
    ]
    if not legend.above:
        figure.legend(handles=handles, loc="outside lower center" if outside else "lower center", ncols=legend.columns)
        return
    drawn = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.05, 1.0), ncols=legend.columns, handlelength=3.4
    )
    for line, text, style in zip(drawn.get_lines(), drawn.get_texts(), legend.styles.values(), strict=True):
        mark([line, text], style)
