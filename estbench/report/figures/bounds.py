"""The test bound along training: against steps, evaluations and seconds, and its gap to the best."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from estbench.report.figures.course import Course, describe_outcome, draw_course, focus, make_course
from estbench.report.figures.direct_labels import Label, draw_labels
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, Point, legend_below
from estbench.report.figures.style import WIDTH, belongs_to, figure_width, is_narrow, text_width, wrap_label
from estbench.report.tables.base import TIMES, fixed, interval_note
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.analysis import Analysis
    from estbench.report.figures.style import LineStyle


class Axis(NamedTuple):
    """An x axis of the bounds: a column of the curves."""

    column: str
    name: str  # the end of the figure's name, and the word for its tab
    label: str
    point: str  # the words for one of its values
    reading: str


AXES = {
    "step": Axis(
        "step",
        "steps",
        "training step",
        "step {:,.0f}",
        "How to read it: all estimators start from the same weights and see the same minibatches, so only the "
        "estimator separates the curves. Higher is better.",
    ),
    "evaluations": Axis(
        "evaluations",
        "evaluations",
        "decoder evaluations (one latent sample of one example each)",
        "{:,.0f} evaluations",
        "How to read it: the same curves against a cost that needs no clock. Draw a vertical line at your budget and "
        "compare the heights.",
    ),
    "seconds": Axis(
        "seconds",
        "seconds",
        "seconds of training (evaluation and probe do not count)",
        "{:,.2f} seconds",
        "How to read it: the same curves against the time that training took. Draw a vertical line at your budget and "
        "compare the heights.",
    ),
}
GAP = (
    "How to read it: lower is better. Both axes are logarithmic, so that differences at the end of training are as "
    "visible as those at its start."
)
# A gap below this has no place on the log axis.
SMALLEST_GAP = 0.01
LEFT = 0.115  # of the width, for the numbers at the axis
NARROWEST = 0.35  # of the width, for the curves


class View(NamedTuple):
    """One way to look at the curves of a problem: a bound against an axis, or its gap to the best."""

    bound: str  # ELBO, or IWAE with its K
    metric: str
    axis: Axis
    best: float | None = None  # the bound that gaps are measured from

    @property
    def name(self) -> str:
        """The name of the figure's files."""
        return f"{self.metric}_{'gap' if self.best is not None else self.axis.name}"

    @property
    def title(self) -> str:
        """The title of the figure."""
        if self.best is not None:
            return f"Gap to the best final test {self.bound}"
        return f"Test {self.bound} against {self.axis.label.partition(' (')[0]}s".replace("ss", "s")


@register_figure(section="convergence")
def draw_bounds(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the test bound of one problem against each axis, its gap to the best, and the other bound."""
    analysis, problem = source.analysis, source.problem
    planned = analysis.cells[analysis.cells["problem"] == problem]
    board = analysis.leaderboard(problem)
    collapsed = {entrant.estimator for entrant in board.entrants if "collapsed" in entrant.ended} if board else set()
    evaluations, _ = analysis.costs(problem)
    same = len(set(evaluations.values())) == 1
    for tab, view in _views(analysis, problem, same_cost=same).items():
        curves = analysis.curves(view.metric)
        curves = curves[curves["problem"] == problem]
        if curves.empty:
            continue
        places = {folder: str(analysis.place(folder)) for folder in curves["folder"].unique()}
        curves = curves.assign(place=[places[folder] for folder in curves["folder"]])
        yield draw_bound(curves, planned, view, source.styles, collapsed).in_tab(tab, "Test bound during training")


def _views(analysis: Analysis, problem: str, *, same_cost: bool) -> dict[str, View]:
    """Return the views of a problem by the word for their tab; the first is what the page opens with.

    If every step costs the same number of evaluations, curves against evaluations are those against steps.
    """
    metric, bound = analysis.metric(problem), analysis.name_bound(problem)
    axes = [axis for axis in AXES.values() if not (same_cost and axis.name == "evaluations")]
    views = {axis.name: View(bound, metric, axis) for axis in axes}
    board = analysis.leaderboard(problem)
    if board is not None and board.contenders:
        views["gap to the best"] = View(bound, metric, AXES["step"], board.contenders[0].bound.value)
    other = "iwae" if metric == "elbo" else "elbo"
    views[analysis.name_bound(problem, other)] = View(analysis.name_bound(problem, other), other, AXES["step"])
    return views


def draw_bound(
    curves: pd.DataFrame,
    planned: pd.DataFrame,
    view: View,
    styles: dict[str, LineStyle],
    collapsed: Collection[str] = (),
) -> RenderedFigure:
    """Draw curves against one axis.

    Parameters
    ----------
    curves
        Values of one test bound, with the status of their run and the place where it was timed.
    planned
        The runs of the plan, with their status.
    collapsed
        The estimators of which a run collapsed. Their runs are drawn one by one: no run may be where their mean is.
    """
    x = view.axis.column
    if view.best is not None:
        curves = curves[curves["step"] > 0].assign(value=view.best - curves["value"])
    by_label = {label: make_course(curves, planned, label, x, alone=label in collapsed) for label in styles}
    courses = [course for course in by_label.values() if course is not None]
    low, high = _gap_limits(courses) if view.best is not None else focus(courses)
    outside = {course.label for course in courses if not low <= course.end <= high}
    sign = "↓ " if view.best is None else ""
    texts = {
        course.label: f"{wrap_label(course.label)}  {sign if course.label in outside else ''}{course.words}"
        for course in courses
    }
    height = 2.4 if is_narrow() else max(3.6, 0.19 * sum(text.count("\n") + 1.6 for text in texts.values()))
    right = 0.015 if is_narrow() else min(_label_room(texts.values()), 1 - LEFT - NARROWEST)
    below = legend_below({texts[course.label]: styles[course.label] for course in courses}) if is_narrow() else None
    margins = Margins(LEFT, right, top=0.2, bottom=0.55)
    canvas = Canvas.single(height + 0.75, margins, panel_height=height, legend=below)
    (axes,) = canvas.places
    for course in courses:
        with belongs_to(axes, styles[course.label]):
            draw_course(axes, course, x, styles[course.label], on_scale=course.label not in outside)
    _set_axes(axes, view, low, high)
    place = _share_of_log if view.best is not None else _share
    if below is None:
        ends = [Label(place(course.end, low, high), texts[course.label], styles[course.label]) for course in courses]
        draw_labels(axes, ends, height)

    drawn = [row for course in courses for row in _drawn_rows(course, view)]
    for label, rows in pd.DataFrame(drawn).groupby("estimator", sort=False):
        for _, of_seed in rows.groupby("seed", sort=False):
            canvas.add_points(axes, styles[str(label)], _points(of_seed, view))
    others = [row for course in courses for row in _rows_by_seed(course.mean, course.label, view)]
    absent = [f"{label} ({describe_outcome(planned, label)})" for label, course in by_label.items() if course is None]
    missing = f" No curve: {', '.join(absent)}." if absent else ""
    return canvas.finish(
        name=view.name,
        title=view.title,
        chart="Line chart",
        alt=_alt(view, courses) + missing,
        caption=_caption(courses, outside, view) + missing,
        reading=GAP if view.best is not None else view.axis.reading,
        data=pd.DataFrame(drawn + others),
    )


def _label_room(texts: Iterable[str]) -> float:
    """Return the margin for labels that begin 0.12 of the panel's width beside it, as a share of the page's width."""
    inches = text_width(texts) + 0.2 + 0.12 * (figure_width() - LEFT * WIDTH)
    return inches / 1.12 / WIDTH


def _set_axes(axes: Axes, view: View, low: float, high: float) -> None:
    x = view.axis.column
    label = view.axis.label.partition(" (")[0] if is_narrow() else view.axis.label
    axes.set(xlabel=label, ylim=(low, high))
    if view.best is None:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}" if x == "seconds" else "{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(3 if is_narrow() else 6))
        axes.set(ylabel=f"test {view.bound}, nats per example")
        axes.margins(x=0.02)
        return
    axes.set(xscale="log", yscale="log", ylabel=f"nats below {fixed(view.best, 1)}, the best final test {view.bound}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_major_locator(LogLocator(subs=(1.0,) if is_narrow() else (1.0, 2.0, 5.0), numticks=8))
        axis.set_minor_formatter(NullFormatter())


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _share_of_log(value: float, low: float, high: float) -> float:
    if not value > 0:
        return -1.0
    return math.log(value / low) / math.log(high / low)


def _drawn_rows(course: Course, view: View) -> list[dict[str, Any]]:
    """Return what is drawn of one estimator: means with their intervals, then single runs."""
    x = view.axis.column
    drawn: list[dict[str, Any]] = []
    for at, rows in course.mean.groupby(x):
        over = t_interval(rows["value"])
        where = {"estimator": course.label, "seed": "mean", "status": Status.DONE.value, "step": rows["step"].iloc[0]}
        drawn.append(where | {x: at, _column(view): over.value, "low": over.low, "high": over.high, "n": over.n})
    return drawn + [row for rows in (course.single, course.stopped) for row in _rows_by_seed(rows, course.label, view)]


def _rows_by_seed(rows: pd.DataFrame, label: str, view: View) -> list[dict[str, Any]]:
    x = "own_x" if "own_x" in rows else view.axis.column
    return [
        {"estimator": label, "seed": str(row["seed"]), "status": str(row["status"]), "step": row["step"]}
        | {view.axis.column: row[x], _column(view): row["value"], "low": np.nan, "high": np.nan, "n": 1}
        for row in rows.to_dict("records")
    ]


def _column(view: View) -> str:
    return view.metric if view.best is None else "gap"


def _points(rows: pd.DataFrame, view: View) -> list[Point]:
    """Return the points of one curve, in words."""
    points = []
    for row in rows.to_dict("records"):
        over = Interval(row[_column(view)], row["low"], row["high"], int(row["n"]))
        note = interval_note(over, fixed(over.low), fixed(over.high))
        note = note if row["seed"] == "mean" else f"seed {row['seed']}, {row['status']}"
        x = row[view.axis.column]
        below = "" if view.best is None else " below the best"
        if view.best is None or over.value > 0:
            points.append((x, over.value, f"{view.axis.point.format(x)}: {fixed(over.value)} nats{below}, {note}"))
    return points


def _gap_limits(courses: list[Course]) -> tuple[float, float]:
    """Return limits of a log axis that hold the gap at the end of every curve but the leader's."""
    rows = pd.concat([part["value"] for course in courses for part in (course.mean, course.single, course.stopped)])
    ends = [course.end for course in courses if course.end > SMALLEST_GAP]
    low = 0.5 * min(ends, default=1.0)
    return low, max(1.4 * float(rows.max()), 2 * low)


def _caption(courses: list[Course], outside: set[str], view: View) -> str:
    what = "Nats per example on the test split" if view.best is None else "Nats per example below the best mean"
    parts = [f"{what}."]
    means = {course.label: course.mean["seed"].nunique() for course in courses if len(course.mean)}
    if means:
        usual = max(means.values())
        others = [f"{label}: n = {count}" for label, count in means.items() if count != usual]
        seeds = f"n = {usual} seeds" + (f"; {', '.join(others)}" if others else "")
        moment = "; seconds are the mean over the same seeds" if view.axis.column == "seconds" else ""
        parts.append(f"Line: mean over seeds{moment}. Band: its 95 % t interval ({seeds}).")
    counts = [course.single["seed"].nunique() for course in courses if len(course.single)]
    if counts:
        why = []
        if any(count < FEWEST_FOR_AN_INTERVAL for count in counts):
            why.append("there are fewer than three seeds")
        if any("collapsed" in course.words for course in courses):
            why.append("a run collapsed")
        if not why or any(
            count >= FEWEST_FOR_AN_INTERVAL and "collapsed" not in course.words
            for course in courses
            if (count := course.single["seed"].nunique())
        ):
            why.append("seeds were timed in several places, so that their seconds have no mean")
        parts.append(f"Thin lines: one per seed, because {' or '.join(why)}.")
    if any(len(course.stopped) for course in courses):
        parts.append(
            f"A thin line that ends in {TIMES} diverged there; one that ends in a bar stopped. Neither is in a mean."
        )
    if outside and view.best is None:
        ends = ", ".join(f"{course.label} {course.words}" for course in courses if course.label in outside)
        parts.append(f"Off the scale, below: {ends}.")
    if view.best is not None:
        parts.append("Where a curve ends early, it is above the best mean or too near to it for a log axis.")
    return " ".join(parts)


def _alt(view: View, courses: list[Course]) -> str:
    ordered = sorted(courses, key=lambda course: course.end, reverse=view.best is None)
    first = "highest" if view.best is None else "lowest"
    return f"{view.title}. Last values, {first} first: {'; '.join(f'{c.label} {c.words}' for c in ordered)}."
