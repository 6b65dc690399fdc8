"""The course of one estimator's bound or metric: what of its runs may be averaged, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.transforms import blended_transform_factory

from estbench.report.analysis.frames import done
from estbench.report.figures.limits import lowest_in_reach, padded
from estbench.report.figures.style import is_narrow, mark
from estbench.report.tables.base import fixed
from estbench.stats import FEWEST_FOR_AN_INTERVAL, t_interval
from estbench.store import Status
from estbench.store.results import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle

# A curve that ends only this share of the range below it is let in.
NEARLY = 0.3
ENDS = {Status.DIVERGED: "X", Status.TIMEOUT: "|", Status.INTERRUPTED: "|", Status.FAILED: "|"}


class Course(NamedTuple):
    """One estimator's curves, split by what may be averaged."""

    label: str
    mean: pd.DataFrame  # rows of done runs, if they may be averaged
    single: pd.DataFrame  # rows of done runs, otherwise
    stopped: pd.DataFrame  # rows of runs that are not done
    end: float  # the final mean, or the last finite value: where the label of the curve points
    words: str  # the end in words, with what did not finish


def make_course(
    curves: pd.DataFrame,
    planned: pd.DataFrame,
    label: str,
    x: str,
    *,
    alone: bool,
    write: Callable[[float], str] = lambda end: fixed(end, 1),
) -> Course | None:
    """Return one estimator's curves, its end as ``write`` writes it; None if no value of it is finite."""
    rows = curves[curves["estimator"] == label]
    if rows.empty:
        return None
    finished, stopped = done(rows), rows[rows["status"] != Status.DONE]
    enough = finished["seed"].nunique() >= FEWEST_FOR_AN_INTERVAL and not alone
    # Seconds from different places have no mean: the runs are then drawn one by one.
    if x == "seconds" and len(set(finished["place"])) > 1:
        enough = False
    if enough:
        finished = finished.assign(own_x=finished[x], **{x: finished.groupby("step")[x].transform("mean")})
    last = (finished if len(finished) else stopped).groupby("seed").tail(1)
    end = float(last["value"].mean())
    if len(finished):
        diverged = int(((planned["estimator"] == label) & (planned["status"] == Status.DIVERGED)).sum())
        words = write(end) + (" (collapsed)" if alone else "") + (f" ({diverged} diverged)" if diverged else "")
    else:
        words = describe_outcome(planned, label)
    none = rows.iloc[:0]
    return Course(label, finished if enough else none, none if enough else finished, stopped, end, words)


def describe_outcome(planned: pd.DataFrame, label: str) -> str:
    """Say how the runs of an estimator ended, if none of them is done with a finite bound."""
    words = []
    for status, cells in planned[planned["estimator"] == label].groupby("status"):
        steps = " to ".join(f"{step:,.0f}" for step in dict.fromkeys((cells["step"].min(), cells["step"].max())))
        words.append(f"{status} at step {steps}" if status != MISSING else MISSING)
    return ", ".join(words) or "not planned"


def draw_course(axes: Axes, course: Course, x: str, style: LineStyle, *, on_scale: bool, tied: bool = True) -> None:
    """Draw the mean with its interval, or single runs; a curve that ends on the scale is ``tied`` to its label."""
    tied = tied and on_scale and not is_narrow()
    line = {"color": style.colour, "linestyle": style.linestyle}
    if len(course.mean):
        means = pd.DataFrame([t_interval(rows["value"]) for _, rows in course.mean.groupby(x)])
        at = sorted(set(course.mean[x]))
        axes.plot(at, means["value"], **line)
        axes.fill_between(at, means["low"], means["high"], color=style.colour, alpha=0.18, linewidth=0)
        if on_scale:
            axes.plot(at[-1:], means["value"].iloc[-1:], style.marker, color=style.colour, clip_on=False)
        if tied:
            _leader(axes, float(at[-1]), float(means["value"].iloc[-1]), style)
    for _, run in course.single.groupby("seed"):
        axes.plot(run[x], run["value"], **line, linewidth=1.1)
    if len(course.single):
        last = course.single.groupby("seed").tail(1)
        axes.plot(last[x], last["value"], style.marker, color=style.colour)
        if tied and len(last) == 1:
            _leader(axes, float(last[x].iloc[0]), float(last["value"].iloc[0]), style)
    for _, run in course.stopped.groupby("seed"):
        axes.plot(run[x], run["value"], **line, linewidth=0.9, alpha=0.7)
        end = ENDS[Status(str(run["status"].iloc[-1]))]
        axes.plot(run[x].iloc[-1:], run["value"].iloc[-1:], end, color=style.colour, markersize=7, markeredgewidth=1.5)


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


def focus(courses: list[Course]) -> tuple[float, float]:
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
