"""The course of an experiment's further metrics along training, on each split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from estbench.report.analysis.own_metrics import OwnMetric, find_metrics
from estbench.report.analysis.wording import interval_note, significant
from estbench.report.figures.bounds import AXES, Axis
from estbench.report.figures.course import Course, draw_course, focus, make_course
from estbench.report.figures.limits import padded
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_above
from estbench.report.figures.style import belongs_to, is_narrow, matplotlib_text
from estbench.stats import Interval, t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estbench.report.figures.style import LineStyle

Courses = dict[str, list[Course]]  # by split


@register_figure(section="metrics")
def draw_metrics(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw each metric of one problem against each axis, with a panel for each split."""
    evaluations, _ = source.analysis.costs(source.problem)
    same_cost = len(set(evaluations.values())) == 1  # then evaluations are steps in another unit
    for metric in find_metrics(source.analysis):
        for axis in AXES.values():
            if axis.name == "evaluations" and same_cost:
                continue
            courses = {split: _find_courses(source, metric, split, axis) for split in metric.splits}
            courses = {split: of_split for split, of_split in courses.items() if of_split}
            if courses:
                yield _draw_metric(metric, axis, courses, source.styles).in_tab(axis.name, metric.label)


def _find_courses(source: FigureSource, metric: OwnMetric, split: str, axis: Axis) -> list[Course]:
    """Return the course of each estimator that has finite values; runs are drawn one by one if one collapsed."""
    analysis, problem = source.analysis, source.problem
    planned = analysis.cells[analysis.cells["problem"] == problem]
    curves = analysis.curves(metric.name, split)
    curves = curves[curves["problem"] == problem]
    curves = curves.assign(place=[str(analysis.place(folder)) for folder in curves["folder"]])
    board = analysis.leaderboard(problem)
    collapsed = {entrant.estimator for entrant in board.entrants if "collapsed" in entrant.ended} if board else set()
    found = (
        make_course(curves, planned, label, axis.column, alone=label in collapsed, write=significant)
        for label in source.styles
    )
    return [course for course in found if course is not None]


def _draw_metric(metric: OwnMetric, axis: Axis, courses: Courses, styles: dict[str, LineStyle]) -> RenderedFigure:
    shown = {course.label for of_split in courses.values() for course in of_split}
    legend = legend_above({label: style for label, style in styles.items() if label in shown})
    canvas = Canvas.grid(
        2.9 + legend.height,
        columns=len(courses),
        margins=Margins(left=0.11, right=0.015, top=0.28, bottom=0.5),
        gaps=(0.08, None),
        share_y=True,
        legend=legend,
    )
    limits = [_limits(of_split, metric.better) for of_split in courses.values()]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    drawn: list[dict[str, Any]] = []
    for axes, (split, of_split) in zip(canvas.places, courses.items(), strict=True):
        for course in of_split:
            with belongs_to(axes, styles[course.label]):
                draw_course(axes, course, axis.column, styles[course.label], on_scale=True, tied=False)
            rows = _rows_of(course, axis)
            drawn += [{"split": split, "estimator": course.label, **row} for row in rows]
            for _, of_seed in pd.DataFrame(rows).groupby("seed", sort=False):
                canvas.add_points(axes, styles[course.label], _points(of_seed, metric, axis))
        axes.set(title=split, xlabel=axis.label.partition(" (")[0], ylim=(low, high))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.margins(x=0.03)
    for row in canvas.panels:
        row[0].set_ylabel(matplotlib_text(metric.label if is_narrow() else metric.title))
    first, of_first = next(iter(courses.items()))
    ends = "; ".join(f"{course.label} {course.words}" for course in of_first)
    return canvas.finish(
        name=f"metric_{axis.name}_{metric.name.replace('/', '.')}",
        title=f"{metric.label} against {axis.label.partition(' (')[0]}",
        chart="Line charts" if len(courses) > 1 else "Line chart",
        alt=f"{metric.title} on the splits {', '.join(courses)}. Last values, {first}: {ends}.",
        caption=f"{metric.summary.removesuffix('.')}. {_describe_lines(courses)}".removeprefix(". "),
        reading=f"How to read it: all estimators start from the same weights and see the same minibatches. "
        f"{metric.direction}",
        data=pd.DataFrame(drawn),
    )


def _limits(courses: Sequence[Course], better: str) -> tuple[float, float]:
    """Return limits that keep the better curves apart; those of all finished runs if no direction is better."""
    if better == "higher":
        return focus([*courses])
    if better == "lower":
        low, high = focus([_negated(course) for course in courses])
        return -high, -low
    rows = [rows["value"] for course in courses for rows in (course.mean, course.single) if len(rows)]
    values = pd.concat(rows or [course.stopped["value"] for course in courses])
    return padded(float(values.min()), float(values.max()), 0.05)


def _negated(course: Course) -> Course:
    mean, single, stopped = (rows.assign(value=-rows["value"]) for rows in (course.mean, course.single, course.stopped))
    return course._replace(mean=mean, single=single, stopped=stopped, end=-course.end)


def _rows_of(course: Course, axis: Axis) -> list[dict[str, Any]]:
    """Return what is drawn of one estimator: means with their intervals, then single runs."""
    x = axis.column
    rows: list[dict[str, Any]] = []
    for at, of_step in course.mean.groupby(x):
        over = t_interval(of_step["value"])
        where = {"seed": "mean", "status": Status.DONE.value, "step": of_step["step"].iloc[0], x: at}
        rows.append(where | over._asdict())
    for run in (*course.single.to_dict("records"), *course.stopped.to_dict("records")):
        where = {"seed": str(run["seed"]), "status": str(run["status"]), "step": run["step"], x: run[x]}
        rows.append(where | Interval(run["value"], float("nan"), float("nan"), 1)._asdict())
    return rows


def _points(rows: pd.DataFrame, metric: OwnMetric, axis: Axis) -> Iterator[tuple[float, float, str]]:
    """Yield the points of one curve, in words."""
    for row in rows.to_dict("records"):
        over = Interval(row["value"], row["low"], row["high"], int(row["n"]))
        note = interval_note(over, significant(over.low), significant(over.high))
        note = note if row["seed"] == "mean" else f"seed {row['seed']}, {row['status']}"
        x = row[axis.column]
        value = f"{significant(over.value)} {metric.unit}".rstrip()
        yield x, over.value, f"{axis.point.format(x)}: {value}, {note}"


def _describe_lines(courses: Courses) -> str:
    every = [course for of_split in courses.values() for course in of_split]
    parts = []
    if means := [course.mean["seed"].nunique() for course in every if len(course.mean)]:
        seeds = f"{min(means)} to {max(means)}" if min(means) < max(means) else f"{max(means)}"
        parts.append(f"Line: mean over finished runs. Band: its 95 % t interval (n = {seeds} seeds).")
    if any(len(course.single) for course in every):
        parts.append("Thin lines: one per seed, where a mean would hide a run that collapsed or rest on too few.")
    if any(len(course.stopped) for course in every):
        parts.append("A thin line that ends in a mark is of a run that did not finish.")
    return " ".join(parts)
