"""The dependence of the final bound on the swept settings: one figure per setting and problem."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.ticker import NullLocator

from estbench.experiment.sweep import family
from estbench.report.analysis.selection import Trial, describe_setting
from estbench.report.figures.limits import lowest_in_reach, padded
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure, name_with_problem
from estbench.report.figures.scaffold import Canvas, Margins, Point, legend_below
from estbench.report.figures.style import belongs_to, matplotlib_text
from estbench.report.tables.base import fixed, interval_note
from estbench.stats import Interval, t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle

# Values whose least and greatest are so many times apart stand on a logarithmic axis.
FAR_APART = 8.0
READING = (
    "How to read it: a flat line is an estimator that forgives a badly chosen setting, a sharp peak one that has to be "
    "tuned. A best value at either end says that the sweep was too narrow."
)


class Tried(NamedTuple):
    """An estimator at one value of a setting."""

    value: Any
    trial: Trial
    bound: Interval
    picked: bool


Lines = dict[str, list[Tried]]


@register_figure(section="sensitivity", each_problem=False)
def draw_sensitivity(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw every swept setting against the final validation ELBO."""
    selection = source.analysis.selection
    styles: dict[str, LineStyle] = {}
    for label, style in source.styles.items():
        styles.setdefault(family(label, selection.tuned), style)
    picked = {id(trial) for trial in selection.picked}
    for name in source.analysis.whole.results.sweep:
        by_problem: dict[str, list[Trial]] = {}
        for trial in selection.trials:
            by_problem.setdefault(family(trial.problem, [name]), []).append(trial)
        for at, (problem, of_problem) in enumerate(by_problem.items()):
            lines = _lines(name, of_problem, picked)
            values = list(dict.fromkeys(tried.value for line in lines.values() for tried in line))
            if len(values) > 1 and any(tried.bound.n for line in lines.values() for tried in line):
                figure_name, title = f"sensitivity_{name}", f"Sensitivity to {name}"
                if len(by_problem) > 1:
                    figure_name, title = name_with_problem(figure_name, problem, at), f"{title}: {problem}"
                yield _draw(name, figure_name, title, lines, _scale(values), styles)


def _lines(name: str, of_problem: Iterable[Trial], picked: set[int]) -> Lines:
    """Return each estimator at every value, at its best (by validation) in whatever else is swept."""
    best: dict[tuple[str, Any], Trial] = {}
    for trial in of_problem:
        options = trial.cells[0]["problem"].get("options", {})
        value = dict(trial.setting).get(name, options.get(name))
        of = trial.estimator, value
        if value is not None and (of not in best or trial.score > best[of].score):
            best[of] = trial
    lines: Lines = {}
    for (estimator, value), trial in best.items():
        tried = Tried(value, trial, t_interval([*trial.validation.values()]), id(trial) in picked)
        lines.setdefault(estimator, []).append(tried)
    return lines


class Scale(NamedTuple):
    """Where values stand on the x axis; values that are no numbers stand in the order of the sweep."""

    places: dict[Any, float]
    log: bool


def _scale(values: list[Any]) -> Scale:
    if not all(map(_is_number, values)):
        return Scale({value: float(at) for at, value in enumerate(values)}, log=False)
    far = min(values) > 0 and max(values) / min(values) >= FAR_APART
    return Scale({value: float(value) for value in sorted(values)}, log=far)


def _draw(
    setting: str, name: str, title: str, lines: Lines, scale: Scale, styles: dict[str, LineStyle]
) -> RenderedFigure:
    legend = legend_below({label: styles[label] for label in lines})
    height = 3.4 + legend.height
    canvas = Canvas.grid(height, margins=Margins(left=0.11, right=0.02, top=0.03 * height, bottom=0.6), legend=legend)
    (axes,) = canvas.places
    low, high = _limits(lines)
    for estimator, line in lines.items():
        with belongs_to(axes, styles[estimator]):
            _draw_line(axes, line, scale, styles[estimator])
        canvas.add_points(axes, styles[estimator], _points(line, setting, scale))
    if scale.log:
        axes.set_xscale("log")
    values = [matplotlib_text(f"{value:g}" if _is_number(value) else str(value)) for value in scale.places]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([*scale.places.values()], values)
    axes.set(xlabel=setting, ylabel="final validation ELBO, nats per example", ylim=(low, high))
    ends = "; ".join(f"{label}: {', '.join(map(_describe, line))}" for label, line in lines.items())
    return canvas.finish(
        name=name,
        title=title,
        chart="Line chart",
        alt=f"Sensitivity to {setting}. Final validation ELBO. {ends}.",
        caption=_caption(lines, low),
        reading=READING,
        data=_data(setting, lines),
    )


def _draw_line(axes: Axes, line: list[Tried], scale: Scale, style: LineStyle) -> None:
    import seaborn as sns  # noqa: PLC0415  (it loads scipy.stats: half a second, for sweeps only)

    known = sorted((scale.places[tried.value], tried) for tried in line if tried.bound.n)
    x, y = [place for place, _ in known], [tried.bound.value for _, tried in known]
    sns.lineplot(x=x, y=y, color=style.colour, linestyle=style.linestyle, errorbar=None, ax=axes)
    for place, tried in known:
        bound = tried.bound
        if not math.isnan(bound.low):
            axes.plot([place, place], [bound.low, bound.high], color=style.colour, linewidth=1.0)
        complete = len(tried.trial.validation) == len(tried.trial.cells)
        face = style.colour if complete else "white"
        axes.plot([place], [bound.value], style.marker, color=style.colour, markerfacecolor=face)
        if tried.picked:
            axes.plot([place], [bound.value], "o", color=style.colour, markerfacecolor="none", markersize=11)


def _limits(lines: Lines) -> tuple[float, float]:
    """Return limits that show the differences of the better settings, however far below a failed one lies."""
    bounds = [tried.bound for line in lines.values() for tried in line if tried.bound.n]
    values = [bound.value for bound in bounds]
    best, low = max(values), min(values)
    if len(values) > 2:
        low = max(low, lowest_in_reach(values))
    inside = [end for bound in bounds if bound.value >= low for end in bound[:3] if not math.isnan(end)]
    return padded(max(min(inside, default=low), low - (best - low)), max(inside, default=best), 0.06)


def _points(line: list[Tried], setting: str, scale: Scale) -> list[Point]:
    points = []
    for tried in line:
        bound = tried.bound
        if bound.n:
            note = interval_note(bound, fixed(bound.low), fixed(bound.high))
            words = f"{setting}={tried.value}: {fixed(bound.value)} nats, {note}"
            points.append((scale.places[tried.value], bound.value, words))
    return sorted(points)


def _describe(tried: Tried) -> str:
    done = f"{len(tried.trial.validation)} of {len(tried.trial.cells)} done"
    return f"{tried.value} {fixed(tried.bound.value, 1)} ({done})"


def _caption(lines: Lines, low: float) -> str:
    parts = ["Mean final validation ELBO over the seeds that are done, with the 95 % t interval from three seeds on."]
    all_tried = [(label, tried) for label, line in lines.items() for tried in line]
    parts.append("Ringed: the setting that was picked, which alone enters the comparisons on the test split.")
    if any(0 < len(tried.trial.validation) < len(tried.trial.cells) for _, tried in all_tried):
        parts.append("Hollow: not all seeds are done.")
    if any(len(tried.trial.setting) > 1 for _, tried in all_tried):
        parts.append("Where several settings are swept, each point is at its estimator's best in the others.")
    below = [
        f"{label} at {_describe(tried)}" for label, tried in all_tried if tried.bound.n and tried.bound.value < low
    ]
    none = [f"{label} at {describe_setting(tried.trial.setting)}" for label, tried in all_tried if not tried.bound.n]
    parts += [f"Off the scale, below: {', '.join(below)}."] if below else []
    parts += [f"No seed is done: {', '.join(none)}."] if none else []
    return " ".join(parts)


def _data(setting: str, lines: Lines) -> pd.DataFrame:
    rows = [
        {"estimator": label, setting: tried.value, "validation_elbo": bound.value, "low": bound.low, "high": bound.high}
        | {"n": bound.n, "planned": len(tried.trial.cells), "picked": tried.picked}
        | {"setting": describe_setting(tried.trial.setting)}
        for label, line in lines.items()
        for tried in line
        for bound in (tried.bound,)
    ]
    return pd.DataFrame(rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
