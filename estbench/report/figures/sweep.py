"""How much the final bound depends on what was swept: one figure per swept setting and problem."""

from __future__ import annotations

import math
import re
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from estbench.experiment.sweep import family
from estbench.report.analysis.selection import Trial, picks, trials, tuned, written
from estbench.report.figures.picture import Picture, series
from estbench.report.figures.style import WIDTH, legend_handles, owned, plain, settings
from estbench.report.tables.base import fixed, interval_note
from estbench.stats import Interval, t_interval

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

    from estbench.report.figures.style import Look
    from estbench.store import Results

# Values whose least and greatest are so many times apart stand on a logarithmic axis.
FAR_APART = 8.0
# How many times the typical shortfall from the best still belongs on the plot.
REACH = 2.0
READING = (
    "How to read it: a flat line is an estimator that forgives a badly chosen setting, a sharp peak one that has to be "
    "tuned. A best value at either end says that the sweep was too narrow."
)


class Point(NamedTuple):
    """An estimator at one value of a setting."""

    value: Any
    trial: Trial
    bound: Interval


Lines = dict[str, list[Point]]


def draw(results: Results, looks: dict[str, Look]) -> list[Picture]:
    """Every swept setting against the final validation ELBO; ``looks`` are those of the picked estimators."""
    names = tuned(results)
    known: dict[str, Look] = {}
    for label, look in looks.items():
        known.setdefault(family(label, names), look)
    found = trials(results) if results.sweep else []
    chosen = {id(trial) for trial in picks(found).values()}
    made = []
    for name in results.sweep:
        groups: dict[str, list[Trial]] = {}
        for trial in found:
            groups.setdefault(family(trial.problem, [name]), []).append(trial)
        for at, (problem, mine) in enumerate(groups.items()):
            lines = _lines(name, mine)
            values = list(dict.fromkeys(point.value for points in lines.values() for point in points))
            if len(values) > 1 and any(point.bound.n for points in lines.values() for point in points):
                of = problem if len(groups) > 1 else ""
                with settings():
                    made.append(_picture(name, of, at, lines, _scale(values), known, chosen))
    return made


def _lines(name: str, found: Iterable[Trial]) -> Lines:
    """Each estimator at every value, at its best (by validation) in whatever else is swept."""
    best: dict[tuple[str, Any], Trial] = {}
    for trial in found:
        options = trial.cells[0]["problem"].get("options", {})
        value = dict(trial.setting).get(name, options.get(name))
        of = trial.estimator, value
        if value is not None and (of not in best or trial.score > best[of].score):
            best[of] = trial
    lines: Lines = {}
    for (estimator, value), trial in best.items():
        point = Point(value, trial, t_interval([*trial.validation.values()]))
        lines.setdefault(estimator, []).append(point)
    return lines


class _Scale(NamedTuple):
    """Where values stand on the x axis; what is no number stands in the order of the sweep."""

    places: dict[Any, float]
    log: bool


def _scale(values: list[Any]) -> _Scale:
    if not all(map(_number, values)):
        return _Scale({value: float(at) for at, value in enumerate(values)}, log=False)
    far = min(values) > 0 and max(values) / min(values) >= FAR_APART
    return _Scale({value: float(value) for value in sorted(values)}, log=far)


def _picture(
    name: str, problem: str, at: int, lines: Lines, scale: _Scale, looks: dict[str, Look], chosen: set[int]
) -> Picture:
    rows = math.ceil(len(lines) / 3)
    height = 3.4 + 0.24 * rows
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    low, high = _range(lines)
    for estimator, points in lines.items():
        with owned(axes, looks[estimator]):
            _line(axes, points, scale, looks[estimator], chosen)
    if scale.log:
        axes.set_xscale("log")
    names = [plain(f"{value:g}" if _number(value) else str(value)) for value in scale.places]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([*scale.places.values()], names)
    axes.set(xlabel=name, ylabel="final validation ELBO, nats per example", ylim=(low, high))
    figure.subplots_adjust(left=0.11, right=0.98, top=0.97, bottom=(0.6 + 0.24 * rows) / height)
    figure.legend(handles=legend_handles({label: looks[label] for label in lines}), loc="lower center", ncols=3)
    read = [each for label, points in lines.items() for each in series(axes, looks[label], _words(points, name, scale))]
    slug = re.sub(r"[^a-z0-9]+", "-", problem.lower()).strip("-")[:40]
    title = f"Sensitivity to {name}"
    said = "; ".join(f"{label}: " + ", ".join(_said(point) for point in points) for label, points in lines.items())
    return Picture(
        f"sensitivity_{name}" + (f"-{at + 1}-{slug}".rstrip("-") if problem else ""),
        "sensitivity",
        f"{title}: {problem}" if problem else title,
        f"Line chart. {title}. Final validation ELBO. {said}.",
        _caption(lines, low),
        READING,
        figure,
        _data(name, lines, chosen),
        tuple(read),
    )


def _line(axes: Axes, points: list[Point], scale: _Scale, look: Look, chosen: set[int]) -> None:
    known = sorted((scale.places[point.value], point) for point in points if point.bound.n)
    x, y = [place for place, _ in known], [point.bound.value for _, point in known]
    axes.plot(x, y, color=look.colour, linestyle=look.linestyle)
    for place, point in known:
        bound = point.bound
        if not math.isnan(bound.low):
            axes.plot([place, place], [bound.low, bound.high], color=look.colour, linewidth=1.0)
        whole = len(point.trial.validation) == len(point.trial.cells)
        face = look.colour if whole else "white"
        axes.plot([place], [bound.value], look.marker, color=look.colour, markerfacecolor=face)
        if id(point.trial) in chosen:
            axes.plot([place], [bound.value], "o", color=look.colour, markerfacecolor="none", markersize=11)


def _range(lines: Lines) -> tuple[float, float]:
    """A range in which the better settings can be told apart, however far below a failed one lies."""
    bounds = [point.bound for points in lines.values() for point in points if point.bound.n]
    values = [bound.value for bound in bounds]
    best = max(values)
    low = max(min(values), best - REACH * (best - median(values)) if len(values) > 2 else -math.inf)
    inside = [end for bound in bounds if bound.value >= low for end in bound[:3] if not math.isnan(end)]
    low, high = max(min(inside, default=low), low - (best - low)), max(inside, default=best)
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad


def _words(points: list[Point], name: str, scale: _Scale) -> list[tuple[float, float, str]]:
    told = []
    for point in points:
        bound = point.bound
        if bound.n:
            note = interval_note(bound, fixed(bound.low), fixed(bound.high))
            words = f"{name}={point.value}: {fixed(bound.value)} nats, {note}"
            told.append((scale.places[point.value], bound.value, words))
    return sorted(told)


def _said(point: Point) -> str:
    done = f"{len(point.trial.validation)} of {len(point.trial.cells)} done"
    return f"{point.value} {fixed(point.bound.value, 1)} ({done})"


def _caption(lines: Lines, low: float) -> str:
    parts = ["Mean final validation ELBO over the seeds that are done, with the 95 % t interval from three seeds on."]
    points = [(label, point) for label, found in lines.items() for point in found]
    parts.append("Ringed: the setting that was picked, which alone enters the comparisons on the test split.")
    if any(0 < len(point.trial.validation) < len(point.trial.cells) for _, point in points):
        parts.append("Hollow: not all seeds are done.")
    if any(len(point.trial.setting) > 1 for _, point in points):
        parts.append("Where several settings are swept, each point is at its estimator's best in the others.")
    below = [f"{label} at {_said(point)}" for label, point in points if point.bound.n and point.bound.value < low]
    none = [f"{label} at {written(point.trial.setting)}" for label, point in points if not point.bound.n]
    parts += [f"Off the scale, below: {', '.join(below)}."] if below else []
    parts += [f"No seed is done: {', '.join(none)}."] if none else []
    return " ".join(parts)


def _data(name: str, lines: Lines, chosen: set[int]) -> pd.DataFrame:
    rows = [
        {"estimator": label, name: point.value, "validation_elbo": bound.value, "low": bound.low, "high": bound.high}
        | {"n": bound.n, "planned": len(point.trial.cells), "picked": id(point.trial) in chosen}
        | {"setting": written(point.trial.setting)}
        for label, points in lines.items()
        for point in points
        for bound in (point.bound,)
    ]
    return pd.DataFrame(rows)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
