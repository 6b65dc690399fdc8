"""The test ELBO along training, against steps, evaluations and seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from matplotlib.transforms import blended_transform_factory

from estbench.report.analysis import frames
from estbench.report.figures.picture import Picture, Series, series
from estbench.report.figures.style import WIDTH, Label, direct_labels, folded, own, owned, text_width
from estbench.report.tables.base import TIMES, fixed, interval_note
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, t_interval
from estbench.store import Status
from estbench.store.results import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import Look
    from estbench.store import Results

NAMES = {"step": "elbo_steps", "evaluations": "elbo_evaluations", "seconds": "elbo_seconds"}
TITLES = {
    "step": "Test ELBO against training steps",
    "evaluations": "Test ELBO against evaluations",
    "seconds": "Test ELBO against training seconds",
}
AXES = {
    "step": "training step",
    "evaluations": "evaluations (calls of f for one sample of one example)",
    "seconds": "training seconds (training alone: no evaluation, no probe)",
}
# How many times the typical shortfall from the highest curve still belongs on the plot.
REACH = 2.0
# A curve that ends only this share of the range below it is let in.
NEARLY = 0.3
LEFT = 0.115  # of the width, for the numbers at the axis
ENDS = {Status.DIVERGED: "X", Status.TIMEOUT: "|", Status.INTERRUPTED: "|", Status.FAILED: "|"}


class Course(NamedTuple):
    """One estimator's curves, split by what may be averaged."""

    label: str
    mean: pd.DataFrame  # rows of done cells, if there are enough of them for an interval
    single: pd.DataFrame  # rows of done cells, otherwise
    stopped: pd.DataFrame  # rows of cells that are not done
    end: float  # where a direct label points: the final mean, or the last finite value
    words: str  # the end in words, with what did not finish


def draw(results: Results, problem: str, x: str, looks: dict[str, Look]) -> Picture | None:
    """Test ELBO against ``x``, a column of the curves."""
    frame = frames.curves(results)
    frame = frame[frame["problem"] == problem]
    if frame.empty:
        return None
    drawn = [_course(results, frame, problem, label, x) for label in looks]
    courses = [course for course in drawn if course is not None]
    low, high = _focus(courses)
    below = {course.label for course in courses if course.end < low}
    absent = [
        f"{label} ({_outcome(results, problem, label)})" for label, one in zip(looks, drawn, strict=True) if not one
    ]

    texts = {
        course.label: f"{folded(course.label)}  {'↓ ' if course.label in below else ''}{course.words}"
        for course in courses
    }
    height = max(3.6, 0.19 * sum(text.count("\n") + 1.6 for text in texts.values()))
    figure = Figure(figsize=(WIDTH, height + 0.75))
    right = 1 - (text_width(texts.values()) + 0.75) / WIDTH
    axes = figure.add_axes((LEFT, 0.55 / (height + 0.75), max(right - LEFT, 0.35), height / (height + 0.75)))
    for course in courses:
        with owned(axes, looks[course.label]):
            _lines(axes, course, x, looks[course.label], on_scale=course.label not in below)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}" if x == "seconds" else "{x:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(xlabel=AXES[x], ylabel="test ELBO, nats per example", ylim=(low, high))
    axes.margins(x=0.02)
    labels = [Label((course.end - low) / (high - low), texts[course.label], looks[course.label]) for course in courses]
    direct_labels(axes, labels, height)

    data = pd.DataFrame([row for course in courses for row in _rows(course, x)])
    missing = f" No curve: {', '.join(absent)}." if absent else ""
    alt, caption = _alt(TITLES[x], courses) + missing, _caption(courses, below, x) + missing
    read = [read for course in courses for read in _readable(axes, course.label, data, x, looks[course.label])]
    return Picture(NAMES[x], "bounds", TITLES[x], alt, caption, READING[x], figure, data, tuple(read))


READING = {
    "step": "How to read it: all estimators start from the same weights and see the same minibatches, so only the "
    "estimator separates the curves. Higher is better.",
    "evaluations": "How to read it: the same curves, each stretched by how often a step calls f: the cost that "
    "needs no clock. Draw a vertical line at your budget and compare the heights.",
    "seconds": "How to read it: the same curves, each stretched by what its steps cost. Draw a vertical line at your "
    "budget and compare the heights.",
}


def _rows(course: Course, x: str) -> list[dict[str, Any]]:
    """What is drawn of one estimator: means with their ends, then single runs."""
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


def _readable(axes: Axes, label: str, data: pd.DataFrame, x: str, look: Look) -> list[Series]:
    """The points of one estimator's curves, in words."""
    unit = {"step": "step {:,.0f}", "evaluations": "{:,.0f} evaluations", "seconds": "{:,.2f} seconds"}[x]
    found: list[Series] = []
    for seed, rows in data[data["estimator"] == label].groupby("seed", sort=False):
        points = []
        for row in rows.to_dict("records"):
            over = Interval(row["elbo"], row["low"], row["high"], int(row["n"]))
            note = interval_note(over, fixed(over.low), fixed(over.high))
            told = note if seed == "mean" else f"seed {seed}, {row['status']}"
            points.append((row[x], row["elbo"], f"{unit.format(row[x])}: {fixed(over.value)} nats, {told}"))
        found += series(axes, look, points)
    return found


def _course(results: Results, frame: pd.DataFrame, problem: str, label: str, x: str) -> Course | None:
    mine = frame[frame["estimator"] == label]
    planned = _planned(results, problem, label)
    diverged = int((planned["status"] == Status.DIVERGED).sum())
    finished, stopped = frames.done(mine), mine[mine["status"] != Status.DONE]
    if mine.empty:
        return None
    enough = finished["seed"].nunique() >= FEWEST_FOR_AN_INTERVAL
    # Seconds from different places have no mean: the runs are then drawn one by one.
    if x == "seconds" and len(frames.places(results, finished["folder"].unique())) > 1:
        enough = False
    if enough:
        finished = finished.assign(**{x: finished.groupby("step")[x].transform("mean")})
    last = (finished if len(finished) else stopped).groupby("seed").tail(1)
    end = float(last["value"].mean())
    if len(finished):
        words = fixed(end, 1) + (f" ({diverged} diverged)" if diverged else "")
    else:
        words = _outcome(results, problem, label)
    none = mine.iloc[:0]
    return Course(label, finished if enough else none, none if enough else finished, stopped, end, words)


def _planned(results: Results, problem: str, label: str) -> pd.DataFrame:
    planned = frames.cells(results)
    return planned[(planned["problem"] == problem) & (planned["estimator"] == label)]


def _outcome(results: Results, problem: str, label: str) -> str:
    """How the cells of an estimator ended, none of which is done with a finite bound."""
    words = []
    for status, cells in _planned(results, problem, label).groupby("status"):
        steps = " to ".join(f"{step:,.0f}" for step in dict.fromkeys((cells["step"].min(), cells["step"].max())))
        words.append(f"{status} at step {steps}" if status != MISSING else MISSING)
    return ", ".join(words) or "not planned"


def _lines(axes: Axes, course: Course, x: str, look: Look, *, on_scale: bool) -> None:
    common = {"x": x, "y": "value", "ax": axes, "color": look.colour, "legend": False}
    if len(course.mean):
        sns.lineplot(
            course.mean,
            **common,
            estimator="mean",
            errorbar=_band,
            err_kws={"alpha": 0.18, "linewidth": 0},
            linestyle=look.linestyle,
        )
        ends = course.mean.groupby(x)["value"].mean()
        if on_scale:
            axes.plot(ends.index[-1:], ends.iloc[-1:], look.marker, color=look.colour, clip_on=False)
            _leader(axes, float(ends.index[-1]), float(ends.iloc[-1]), look)
    if len(course.single):
        sns.lineplot(course.single, **common, units="seed", estimator=None, linestyle=look.linestyle, linewidth=1.1)
        last = course.single.groupby("seed").tail(1)
        if on_scale and len(last) == 1:
            _leader(axes, float(last[x].iloc[0]), float(last["value"].iloc[0]), look)
        axes.plot(last[x], last["value"], look.marker, color=look.colour)
    if len(course.stopped):
        sns.lineplot(
            course.stopped,
            **common,
            units="seed",
            estimator=None,
            linestyle=look.linestyle,
            linewidth=0.9,
            alpha=0.7,
        )
        for status, rows in course.stopped.groupby("seed").tail(1).groupby("status"):
            axes.plot(
                rows[x],
                rows["value"],
                ENDS[Status(str(status))],
                color=look.colour,
                markersize=7,
                markeredgewidth=1.5,
            )


def _leader(axes: Axes, x: float, y: float, look: Look) -> None:
    """A faint line from where a curve ends to the edge, where its label starts."""
    where = blended_transform_factory(axes.transAxes, axes.transData)
    line = axes.annotate(
        "",
        (1.005, y),
        (x, y),
        xycoords=where,
        textcoords="data",
        arrowprops={
            "arrowstyle": "-",
            "color": look.colour,
            "linewidth": 0.6,
            "alpha": 0.5,
            "linestyle": ":",
            "shrinkA": 4,
            "shrinkB": 0,
        },
        annotation_clip=False,
    )
    if line.arrow_patch is not None:
        own([line.arrow_patch], look)


def _band(values: pd.Series[float]) -> tuple[float, float]:
    interval = t_interval(values)
    return interval.low, interval.high


def _focus(courses: list[Course]) -> tuple[float, float]:
    """A range that keeps the better curves apart, however far below a failed run lies."""
    ends = {course.label: course.end for course in courses if len(course.mean) or len(course.single)}
    ends = ends or {course.label: course.end for course in courses}
    best = max(ends.values())
    floor = best - REACH * (best - float(np.median(list(ends.values()))))
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
    pad = 0.05 * (high - low) or 1.0
    return low - pad, high + pad


def _caption(courses: list[Course], below: set[str], x: str) -> str:
    parts = ["Mean nats per example on the test split."]
    means = {course.label: course.mean["seed"].nunique() for course in courses if len(course.mean)}
    if means:
        same = len(set(means.values())) == 1 and len(means) == len(courses)
        listed = ", ".join(f"{label}: n = {count}" for label, count in means.items())
        said = f"n = {next(iter(means.values()))} seeds" if same else f"over seeds; {listed}"
        moment = "; seconds are the mean over the same seeds" if x == "seconds" else ""
        parts.append(f"Line: mean over seeds{moment}; band: 95 % t interval ({said}).")
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
    return (
        f"Line chart. {title}. Last values, highest first: " + "; ".join(f"{c.label} {c.words}" for c in ordered) + "."
    )
