"""Gradient variance and what it costs: dot plots of a report, and of ``estbench probe``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from estbench.report.analysis.frames import TRAJECTORIES, TRAJECTORY, describe_trajectory, groups, last_common_step
from estbench.report.figures.gradients import TABS, describe_bars, select_statistic
from estbench.report.figures.limits import with_decades
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, label_margin, mark_row_labels, show_rows
from estbench.report.figures.style import FONT, INK, SOFT, mark, wrap_label
from estbench.report.tables.base import TIMES, interval_note, significant
from estbench.stats import Interval, log_t_interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from estbench.report.figures.style import LineStyle

READING = (
    "How to read it: averaging k draws divides the variance by k and multiplies the cost by k, so the products "
    "stay the same; they compare estimators at equal cost. Further left is less noise for the same work."
)
RIGHT = 0.025  # of the width
TITLE = "Gradient variance and its cost"
# What the variance of a probe is multiplied by: a column of its rows.
PROBE_COSTS = {
    "variance": None,
    f"variance {TIMES} evaluations": "evaluations",
    f"variance {TIMES} ms": "milliseconds",
}


@register_figure(section="variance", order=30)
def draw_cost(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the variance at the last common checkpoint of one problem, and the variance times its cost."""
    for trajectory in reversed(TRAJECTORIES):
        yield from _draw_at(source, trajectory)


def _draw_at(source: FigureSource, trajectory: str) -> Iterator[RenderedFigure]:
    rows = select_statistic(source.analysis, source.problem, trajectory=trajectory)
    step = last_common_step(rows)
    if rows.empty or step is None:
        return
    space, group = groups(rows)[0]
    rows = rows[(rows["step"] == step) & (rows["space"] == space) & (rows["group"] == group)]
    variances = {label: _interval(rows[rows["estimator"] == label]) for label in source.styles}
    variances = {label: variance for label, variance in variances.items() if variance.n and variance.value > 0}
    if not variances:
        return
    evaluations, milliseconds = source.analysis.costs(source.problem)
    costs = {
        "variance": dict.fromkeys(variances, 1.0),
        f"variance {TIMES} evaluations": evaluations,
        f"variance {TIMES} ms per step": milliseconds,
    }
    data = pd.DataFrame(
        [
            {"panel": panel, "estimator": label}
            | {"value": variance.value * cost[label], "low": variance.low * cost[label]}
            | {"high": variance.high * cost[label], "n": variance.n}
            for panel, cost in costs.items()
            for label, variance in variances.items()
            if label in cost
        ]
    )
    reference = source.analysis.reference
    dashed = f" The dashed line is {reference}; the numbers are multiples of it." if reference in variances else ""
    canvas = _draw_panels(data, reference if dashed else None, source.styles)
    title = f"{TITLE}, {TABS[trajectory]}"
    exact = "decoder evaluations per image" + (", and milliseconds per training step" if milliseconds else "")
    figure = canvas.finish(
        name="variance_cost" if trajectory == TRAJECTORY else f"variance_cost_{trajectory}",
        title=title,
        chart="Dot plot",
        alt=f"{title}: {group} gradient at step {step:,}; for each estimator {_spell_out(data)}.",
        caption=f"Variance of the {group} gradient ({space}) at step {step:,}, the last checkpoint that all finished "
        f"runs share ({describe_trajectory(trajectory)}), by itself and multiplied by what a step costs; log scale. "
        f"{describe_bars(rows, 'the dot is their geometric mean')} The cost is taken as exact: {exact}.",
        reading=READING + dashed,
        data=data.assign(panel=data["panel"].str.replace(TIMES, "x")),
    )
    yield figure.in_tab(TABS[trajectory], TITLE)


def _draw_panels(data: pd.DataFrame, reference: str | None, styles: dict[str, LineStyle]) -> Canvas:
    """Draw a panel for each value of ``panel``, with what each estimator is as a multiple of the reference."""
    names = {label: wrap_label(label) for label in data["estimator"].unique()}
    panels = data["panel"].unique()
    row = 0.3 if all("\n" not in name for name in names.values()) else 0.4
    canvas = Canvas.grid(
        row * len(names) + 0.85,
        columns=len(panels),
        margins=Margins(label_margin(names.values()), RIGHT, top=0.35, bottom=0.42),
        gaps=(0.12, None),
        share_y=True,
    )
    for axes, panel in zip(canvas.places, panels, strict=True):
        intervals = {
            str(row.estimator): Interval(row.value, row.low, row.high, row.n)
            for row in data[data["panel"] == panel].itertuples()
        }
        for label, artists in _draw_dots(axes, intervals, list(names), styles).items():
            mark(artists, styles[label])
        if reference is not None and reference in intervals:
            _draw_ratios(axes, intervals, reference, list(names), styles)
        axes.set_title(panel)
        _set_limits(axes, *axes.get_xlim(), ticks=4)
        for at in range(len(names)):
            axes.axhline(at, color="#f0f0f0", linewidth=0.7, zorder=0)
        for label, interval in intervals.items():
            value, low, high = (significant(each) for each in interval[:3])
            words = f"{panel} {value}, {interval_note(interval, low, high)}"
            canvas.add_points(axes, styles[label], [(interval.value, list(names).index(label), words)])
    first = canvas.places[0]
    first.set_yticks(range(len(names)), list(names.values()))
    first.set_ylim(len(names) - 0.5, -0.5)
    mark_row_labels(first, [styles[label] for label in names])
    return canvas


def draw_probe(statistics: pd.DataFrame, styles: dict[str, LineStyle]) -> Figure:
    """Draw the variances of one probe, and the variances times what a gradient costs.

    Parameters
    ----------
    statistics
        The rows of a probe: statistics with the ends of their intervals, evaluations and milliseconds of a gradient.
    """
    variances = statistics[(statistics["statistic"] == "variance") & (statistics["value"] > 0)]
    groups = list(dict.fromkeys(zip(variances["space"], variances["group"], strict=True)))
    groups.sort(key=lambda pair: pair[0] != "weights")
    names = [wrap_label(label) for label in styles]
    rows = max(1, len(groups))
    canvas = Canvas.grid(
        0.6 + rows * (0.55 + 0.24 * len(styles)),
        rows,
        len(PROBE_COSTS),
        margins=Margins(label_margin(names), RIGHT, top=0.35, bottom=0.5),
        gaps=(0.14, 0.75),
    )
    for line, (space, group) in zip(canvas.panels, groups, strict=False):
        of_group = variances[(variances["space"] == space) & (variances["group"] == group)]
        for axes, (title, cost) in zip(line, PROBE_COSTS.items(), strict=True):
            _draw_probe_panel(axes, of_group, cost, styles)
            axes.set_yticks(range(len(styles)), names if axes is line[0] else [])
            if (space, group) == groups[-1]:
                axes.set_xlabel(title)
        line[0].set_title(f"{group} ({space})")
    if not groups:
        canvas.panels[0, 0].set_title("no estimator has any variance")
    return canvas.figure


def _draw_probe_panel(axes: Axes, rows: pd.DataFrame, cost: str | None, styles: dict[str, LineStyle]) -> None:
    intervals = {}
    for row in rows.to_dict("records"):
        factor = float(row[cost]) if cost else 1.0
        low = row["low"] * factor if row["low"] > 0 else math.nan  # only a positive interval is on a log scale
        intervals[row["estimator"]] = Interval(row["value"] * factor, low, row["high"] * factor, row["replicates"])
    _draw_dots(axes, intervals, list(styles), styles)
    axes.set_ylim(len(styles) - 0.5, -0.5)
    shown = [interval.value for interval in intervals.values()]
    shown += [end for interval in intervals.values() if not math.isnan(interval.low) for end in interval[1:3]]
    pad = (max(shown) / min(shown)) ** 0.08
    _set_limits(axes, min(shown) / pad, max(shown) * pad, ticks=5)


def _draw_dots(
    axes: Axes, intervals: dict[str, Interval], order: list[str], styles: dict[str, LineStyle]
) -> dict[str, list[Artist]]:
    """Draw each value with its interval in its estimator's row; return what was drawn of each."""
    axes.set_xscale("log")
    drawn: dict[str, list[Artist]] = {}
    for label, interval in intervals.items():
        at, style = order.index(label), styles[label]
        drawn[label] = []
        if not math.isnan(interval.low):
            drawn[label] += axes.plot(
                [interval.low, interval.high],
                [at, at],
                color=style.colour,
                linewidth=1.6,
                solid_capstyle="butt",
            )
        drawn[label] += axes.plot([interval.value], [at], style.marker, color=style.colour, markersize=6)
    show_rows(axes)
    return drawn


def _draw_ratios(
    axes: Axes, intervals: dict[str, Interval], reference: str, order: list[str], styles: dict[str, LineStyle]
) -> None:
    """Draw the reference as a line, and write each value's multiple of it on the side of the dot that has room."""
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    for label, (value, *_) in intervals.items():
        if label == reference:
            continue
        rightward = math.log(value / low) < 0.55 * math.log(high / low)
        note = axes.annotate(
            f"{significant(value / intervals[reference].value)}{TIMES}",
            (value, order.index(label)),
            (7 if rightward else -7, 0),
            textcoords="offset points",
            ha="left" if rightward else "right",
            va="center",
            fontsize=FONT - 1.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
        mark([note], styles[label])
    axes.axvline(intervals[reference].value, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)


def _set_limits(axes: Axes, low: float, high: float, *, ticks: int) -> None:
    axes.set_xlim(*with_decades(low, high))
    axes.xaxis.set_major_locator(LogLocator(numticks=ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def _interval(rows: pd.DataFrame) -> Interval:
    if len(rows) == 1:
        only = rows.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    return log_t_interval(rows["value"])


def _spell_out(data: pd.DataFrame) -> str:
    """Name the panels, then each estimator's values in all of them."""
    values = "; ".join(
        f"{label} {', '.join(map(significant, rows['value']))}" for label, rows in data.groupby("estimator", sort=False)
    )
    return f"{', '.join(data['panel'].unique())}: {values}"
