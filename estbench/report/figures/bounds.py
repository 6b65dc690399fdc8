"""The test ELBO along training, against steps, evaluations and seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from matplotlib.transforms import blended_transform_factory

from estbench.report.analysis.frames import done
from estbench.report.figures.direct_labels import Label, draw_labels
from estbench.report.figures.limits import lowest_in_reach, padded
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, Point, text_margin
from estbench.report.figures.style import belongs_to, mark, wrap_label
from estbench.report.tables.base import TIMES, fixed, interval_note
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, t_interval
from estbench.store import Status
from estbench.store.results import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle


class Axis(NamedTuple):
    """An x axis of the bounds: a column of the curves."""

    column: str
    name: str  # of the figure
    title: str
    label: str
    point: str  # the words for one of its values
    reading: str


AXES = (
    Axis(
        "step",
        "elbo_steps",
        "Test ELBO against training steps",
        "training step",
        "step {:,.0f}",
        "How to read it: all estimators start from the same weights and see the same minibatches, so only the "
        "estimator separates the curves. Higher is better.",
    ),
    Axis(
        "evaluations",
        "elbo_evaluations",
        "Test ELBO against evaluations",
        "evaluations (calls of f for one sample of one example)",
        "{:,.0f} evaluations",
        "How to read it: the same curves, each stretched by how often a step calls f: the cost that "
        "needs no clock. Draw a vertical line at your budget and compare the heights.",
    ),
    Axis(
        "seconds",
        "elbo_seconds",
        "Test ELBO against training seconds",
        "training seconds (training alone: no evaluation, no probe)",
        "{:,.2f} seconds",
        "How to read it: the same curves, each stretched by what its steps cost. Draw a vertical line at your "
        "budget and compare the heights.",
    ),
)
# A curve that ends only this share of the range below it is let in.
NEARLY = 0.3
LEFT = 0.115  # of the width, for the numbers at the axis
NARROWEST = 0.35  # of the width, for the curves
ENDS = {Status.DIVERGED: "X", Status.TIMEOUT: "|", Status.INTERRUPTED: "|", Status.FAILED: "|"}


class Course(NamedTuple):
    """One estimator's curves, split by what may be averaged."""

    label: str
    mean: pd.DataFrame  # rows of done cells, if there are enough of them for an interval
    single: pd.DataFrame  # rows of done cells, otherwise
    stopped: pd.DataFrame  # rows of cells that are not done
    end: float  # the final mean, or the last finite value: where the label of the curve points
    words: str  # the end in words, with what did not finish


@register_figure(section="convergence")
def draw_bounds(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the test ELBO of one problem against each axis."""
    curves, planned = source.analysis.curves(), source.analysis.cells
    curves = curves[curves["problem"] == source.problem]
    if curves.empty:
        return
    places = {folder: str(source.analysis.place(folder)) for folder in curves["folder"].unique()}
    curves = curves.assign(place=[places[folder] for folder in curves["folder"]])
    for axis in AXES:
        yield draw_bound(curves, planned[planned["problem"] == source.problem], axis, source.styles)


def draw_bound(curves: pd.DataFrame, planned: pd.DataFrame, axis: Axis, styles: dict[str, LineStyle]) -> RenderedFigure:
    """Draw curves against one axis.

    Parameters
    ----------
    curves
        Values of the test ELBO, with the status of their cell and the place where it was timed.
    planned
        The cells of the plan, with their status.
    """
    x = axis.column
    by_label = {label: _course(curves, planned, label, x) for label in styles}
    courses = [course for course in by_label.values() if course is not None]
    low, high = _focus(courses)
    below = {course.label for course in courses if course.end < low}
    texts = {
        course.label: f"{wrap_label(course.label)}  {'↓ ' if course.label in below else ''}{course.words}"
        for course in courses
    }
    height = max(3.6, 0.19 * sum(text.count("\n") + 1.6 for text in texts.values()))
    right = min(text_margin(texts.values(), 0.75), 1 - LEFT - NARROWEST)
    canvas = Canvas.single(height + 0.75, Margins(LEFT, right, top=0.2, bottom=0.55), panel_height=height)
    (axes,) = canvas.panels.flat
    for course in courses:
        with belongs_to(axes, styles[course.label]):
            _lines(axes, course, x, styles[course.label], on_scale=course.label not in below)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}" if x == "seconds" else "{x:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(xlabel=axis.label, ylabel="test ELBO, nats per example", ylim=(low, high))
    axes.margins(x=0.02)
    ends = [Label((course.end - low) / (high - low), texts[course.label], styles[course.label]) for course in courses]
    draw_labels(axes, ends, height)

    data = pd.DataFrame([row for course in courses for row in _rows(course, x)])
    for label, rows in data.groupby("estimator", sort=False):
        for _, of_seed in rows.groupby("seed", sort=False):
            canvas.add_points(axes, styles[str(label)], _points(of_seed, axis))
    absent = [f"{label} ({_outcome(planned, label)})" for label, course in by_label.items() if course is None]
    missing = f" No curve: {', '.join(absent)}." if absent else ""
    return canvas.finish(
        name=axis.name,
        title=axis.title,
        chart="Line chart",
        alt=_alt(axis.title, courses) + missing,
        caption=_caption(courses, below, x) + missing,
        reading=axis.reading,
        data=data,
    )


def _rows(course: Course, x: str) -> list[dict[str, Any]]:
    """Return what is drawn of one estimator: means with their intervals, then single runs."""
    drawn: list[dict[str, Any]] = []
    for at, rows in course.mean.groupby(x):
        over = t_interval(rows["value"])
        where = {"estimator": course.label, "seed": "mean", "status": Status.DONE.value, "step": rows["step"].iloc[0]}
        drawn.append(where | {x: at, "elbo": over.value, "low": over.low, "high": over.high, "n": over.n})
    for rows in (course.single, course.stopped):
        for row in rows.to_dict("records"):
            where = {"estimator": course.label, "seed": str(row["seed"]), "status": str(row["status"])}
            drawn.append(
                where | {"step": row["step"], x: row[x], "elbo": row["value"], "low": np.nan, "high": np.nan, "n": 1}
            )
    return drawn


def _points(rows: pd.DataFrame, axis: Axis) -> list[Point]:
    """Return the points of one curve, in words."""
    points = []
    for row in rows.to_dict("records"):
        over = Interval(row["elbo"], row["low"], row["high"], int(row["n"]))
        note = interval_note(over, fixed(over.low), fixed(over.high))
        note = note if row["seed"] == "mean" else f"seed {row['seed']}, {row['status']}"
        x = row[axis.column]
        points.append((x, row["elbo"], f"{axis.point.format(x)}: {fixed(over.value)} nats, {note}"))
    return points


def _course(curves: pd.DataFrame, planned: pd.DataFrame, label: str, x: str) -> Course | None:
    """Return one estimator's curves; None if no bound of it is finite."""
    rows = curves[curves["estimator"] == label]
    if rows.empty:
        return None
    finished, stopped = done(rows), rows[rows["status"] != Status.DONE]
    enough = finished["seed"].nunique() >= FEWEST_FOR_AN_INTERVAL
    # Seconds from different places have no mean: the runs are then drawn one by one.
    if x == "seconds" and len(set(finished["place"])) > 1:
        enough = False
    if enough:
        finished = finished.assign(**{x: finished.groupby("step")[x].transform("mean")})
    last = (finished if len(finished) else stopped).groupby("seed").tail(1)
    end = float(last["value"].mean())
    if len(finished):
        diverged = int(((planned["estimator"] == label) & (planned["status"] == Status.DIVERGED)).sum())
        words = fixed(end, 1) + (f" ({diverged} diverged)" if diverged else "")
    else:
        words = _outcome(planned, label)
    none = rows.iloc[:0]
    return Course(label, finished if enough else none, none if enough else finished, stopped, end, words)


def _outcome(planned: pd.DataFrame, label: str) -> str:
    """Say how the cells of an estimator ended, if none of them is done with a finite bound."""
    words = []
    for status, cells in planned[planned["estimator"] == label].groupby("status"):
        steps = " to ".join(f"{step:,.0f}" for step in dict.fromkeys((cells["step"].min(), cells["step"].max())))
        words.append(f"{status} at step {steps}" if status != MISSING else MISSING)
    return ", ".join(words) or "not planned"


def _lines(axes: Axes, course: Course, x: str, style: LineStyle, *, on_scale: bool) -> None:
    common = {"x": x, "y": "value", "ax": axes, "color": style.colour, "legend": False}
    if len(course.mean):
        sns.lineplot(
            course.mean,
            **common,
            estimator="mean",
            errorbar=_band,
            err_kws={"alpha": 0.18, "linewidth": 0},
            linestyle=style.linestyle,
        )
        ends = course.mean.groupby(x)["value"].mean()
        if on_scale:
            axes.plot(ends.index[-1:], ends.iloc[-1:], style.marker, color=style.colour, clip_on=False)
            _leader(axes, float(ends.index[-1]), float(ends.iloc[-1]), style)
    if len(course.single):
        sns.lineplot(course.single, **common, units="seed", estimator=None, linestyle=style.linestyle, linewidth=1.1)
        last = course.single.groupby("seed").tail(1)
        if on_scale and len(last) == 1:
            _leader(axes, float(last[x].iloc[0]), float(last["value"].iloc[0]), style)
        axes.plot(last[x], last["value"], style.marker, color=style.colour)
    if len(course.stopped):
        sns.lineplot(
            course.stopped,
            **common,
            units="seed",
            estimator=None,
            linestyle=style.linestyle,
            linewidth=0.9,
            alpha=0.7,
        )
        for status, rows in course.stopped.groupby("seed").tail(1).groupby("status"):
            axes.plot(
                rows[x],
                rows["value"],
                ENDS[Status(str(status))],
                color=style.colour,
                markersize=7,
                markeredgewidth=1.5,
            )


def _leader(axes: Axes, x: float, y: float, style: LineStyle) -> None:
    """Draw a faint line from the end of a curve to the edge, where its label starts."""
    where = blended_transform_factory(axes.transAxes, axes.transData)
    line = axes.annotate(
        "",
        (1.005, y),
        (x, y),
        xycoords=where,
        textcoords="data",
        arrowprops={
            "arrowstyle": "-",
            "color": style.colour,
            "linewidth": 0.6,
            "alpha": 0.5,
            "linestyle": ":",
            "shrinkA": 4,
            "shrinkB": 0,
        },
        annotation_clip=False,
    )
    if line.arrow_patch is not None:
        mark([line.arrow_patch], style)


def _band(values: pd.Series[float]) -> tuple[float, float]:
    interval = t_interval(values)
    return interval.low, interval.high


def _focus(courses: list[Course]) -> tuple[float, float]:
    """Return limits that keep the better curves apart, however far below a failed run lies."""
    ends = {course.label: course.end for course in courses if len(course.mean) or len(course.single)}
    ends = ends or {course.label: course.end for course in courses}
    best, floor = max(ends.values()), lowest_in_reach(ends.values())
    values = []
    for course in courses:
        rows = next((rows for rows in (course.mean, course.single, course.stopped) if len(rows)), course.stopped)
        values.append(rows["value"].to_numpy(dtype=float))
        if ends.get(course.label, -np.inf) >= floor:
            # A tenth of the way in, the curve is past its first rise and worth seeing.
            early = rows[rows["step"] >= 0.1 * rows["step"].max()]
            floor = min(floor, float(early["value"].min()))
    everything = np.concatenate(values)
    low, high = (
        max(float(everything.min()), floor),
        max(best, float(everything[everything >= floor].max(initial=best))),
    )
    low = min([low, *(end for end in ends.values() if end >= low - NEARLY * (high - low))])
    return padded(low, high, 0.05)


def _caption(courses: list[Course], below: set[str], x: str) -> str:
    parts = ["Mean nats per example on the test split."]
    means = {course.label: course.mean["seed"].nunique() for course in courses if len(course.mean)}
    if means:
        same = len(set(means.values())) == 1 and len(means) == len(courses)
        listed = ", ".join(f"{label}: n = {count}" for label, count in means.items())
        seeds = f"n = {next(iter(means.values()))} seeds" if same else f"over seeds; {listed}"
        moment = "; seconds are the mean over the same seeds" if x == "seconds" else ""
        parts.append(f"Line: mean over seeds{moment}; band: 95 % t interval ({seeds}).")
    counts = [course.single["seed"].nunique() for course in courses if len(course.single)]
    if any(count < FEWEST_FOR_AN_INTERVAL for count in counts):
        parts.append("Thin lines: one per seed, where there are fewer than three; n < 3: no interval.")
    if any(count >= FEWEST_FOR_AN_INTERVAL for count in counts):
        parts.append("Thin lines: one per seed, where seeds were timed in several places; their seconds have no mean.")
    if any(len(course.stopped) for course in courses):
        parts.append(
            f"A thin line that ends in {TIMES} diverged there, one that ends in a bar stopped; neither is in a mean."
        )
    if below:
        ends = ", ".join(f"{course.label} {course.words}" for course in courses if course.label in below)
        parts.append(f"Off the scale, below: {ends}.")
    return " ".join(parts)


def _alt(title: str, courses: list[Course]) -> str:
    ordered = sorted(courses, key=lambda course: -course.end)
    return f"{title}. Last values, highest first: {'; '.join(f'{c.label} {c.words}' for c in ordered)}."
