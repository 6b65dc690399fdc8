"""Quality against cost: final bound and gradient variance against the cost of a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from estbench.report.analysis.wording import TIMES, fixed, significant
from estbench.report.figures.limits import with_decades
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_above
from estbench.report.figures.style import SOFT, belongs_to

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.analysis.leaderboard import Entrant, Leaderboard

# The leader's own gap is drawn here.
SMALLEST_GAP = 0.1


class Place(NamedTuple):
    """Where an estimator stands: its cost, what it is judged by (less is better), and the ends of its interval."""

    cost: float
    value: float
    low: float
    high: float


@register_figure(section="target", order=5)
def draw_pareto(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the contenders of one problem; a line joins those that no other beats in both cost and quality."""
    board = source.analysis.leaderboard(source.problem)
    if board is None or len(board.contenders) < 2:
        return
    timed = all(entrant.seconds.n for entrant in board.contenders)
    costs = {e.estimator: e.seconds.value if timed else e.evaluations for e in board.contenders}
    if not all(math.isfinite(cost) and cost > 0 for cost in costs.values()):
        return
    panels = {"bound": _place_bounds(board, costs), "variance": _place_variances(board, costs)}
    panels = {name: places for name, places in panels.items() if len(places) > 1}
    styles = {label: style for label, style in source.styles.items() if label in costs}
    legend = legend_above(styles)
    canvas = Canvas.grid(
        3.2 + legend.height,
        columns=len(panels),
        margins=Margins(left=0.1, right=0.02, top=0.15, bottom=0.55),
        gaps=(0.32, None),
        legend=legend,
    )
    bound = source.analysis.name_bound(source.problem)
    where = {"shared": " at the same weights", "own": " at its own weights"}.get(board.trajectory, "")
    axis_of = {
        "bound": f"nats below the best test {bound}",
        "variance": f"gradient variance of the encoder\n{where.strip()}, {TIMES} {source.analysis.reference}'s",
    }
    reference = source.analysis.reference
    cost_label = f"time per step, {TIMES} {reference}'s" if timed else "decoder evaluations per example and step"
    rows = []
    for axes, (name, places) in zip(canvas.places, panels.items(), strict=True):
        front = find_front(places)
        axes.plot(
            [places[at].cost for at in front], [places[at].value for at in front], color=SOFT, linewidth=1, zorder=1
        )
        for label, place in places.items():
            style = styles[label]
            with belongs_to(axes, style):
                if math.isfinite(place.low):
                    axes.plot([place.cost] * 2, [place.low, place.high], color=style.colour, linewidth=1.4)
                axes.plot([place.cost], [place.value], style.marker, color=style.colour, markersize=7)
            words = f"{cost_label} {significant(place.cost)}; {_write(name, place.value)}"
            canvas.add_points(axes, style, [(place.cost, place.value, words)])
            rows.append({"panel": name, "estimator": label, **place._asdict(), "on_front": label in front})
        axes.set(xscale="log", yscale="log", xlabel=cost_label, ylabel=axis_of[name])
        axes.set_ylim(*with_decades(*axes.get_ylim()))
        _label_axes(axes)
    fronts = "; ".join(f"{name}: {', '.join(find_front(places))}" for name, places in panels.items())
    yield canvas.finish(
        name="pareto",
        title="What a step gives for what it costs",
        chart="Scatter plots on log scales",
        alt=f"{' and '.join(panels)} against the {cost_label}. {_spell_out(panels)}. "
        f"Not beaten by another in both, cheapest first: {fronts}.",
        caption=f"Contenders only. Bars: 95 % t intervals. The leader stands at {SMALLEST_GAP:g} nats, because its own "
        "gap has no place on a log axis. Grey line: the estimators that no other beats in both cost and quality.",
        reading="How to read it: towards the lower left is better. Off the grey line, another estimator is at least as "
        "good for less.",
        data=pd.DataFrame(rows),
    )


def find_front(places: dict[str, Place]) -> list[str]:
    """Return the estimators that no other beats in both cost and value, cheapest first.

    >>> find_front({"a": Place(1, 5, 0, 0), "b": Place(2, 1, 0, 0), "c": Place(3, 2, 0, 0)})
    ['a', 'b']
    """
    front: list[str] = []
    for label, place in sorted(places.items(), key=lambda item: (item[1].cost, item[1].value)):
        if not front or place.value < places[front[-1]].value:
            front.append(label)
    return front


def _place_bounds(board: Leaderboard, costs: dict[str, float]) -> dict[str, Place]:
    return {entrant.estimator: _place_gap(entrant, costs[entrant.estimator]) for entrant in board.contenders}


def _place_gap(entrant: Entrant, cost: float) -> Place:
    if not entrant.gap.interval.n:  # the leader
        return Place(cost, SMALLEST_GAP, math.nan, math.nan)
    value, low, high = (max(end, SMALLEST_GAP) for end in entrant.gap.interval[:3])
    return Place(cost, value, low, high)


def _place_variances(board: Leaderboard, costs: dict[str, float]) -> dict[str, Place]:
    return {
        entrant.estimator: Place(costs[entrant.estimator], *entrant.variance[:3])
        for entrant in board.contenders
        if entrant.variance.n and entrant.variance.value > 0
    }


def _spell_out(panels: dict[str, dict[str, Place]]) -> str:
    """Name each estimator with its cost and its values."""
    labels = dict.fromkeys(label for places in panels.values() for label in places)
    parts = []
    for label in labels:
        found = {name: places[label] for name, places in panels.items() if label in places}
        values = ", ".join(_write(name, place.value) for name, place in found.items())
        parts.append(f"{label} at {significant(next(iter(found.values())).cost)}: {values}")
    return "; ".join(parts)


def _write(name: str, value: float) -> str:
    return f"{fixed(value)} nats below the best" if name == "bound" else f"{significant(value)} {TIMES} the variance"


def _label_axes(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    if high / low < 12:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=12))
    low, high = axes.get_ylim()
    if high / low < 1e4:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
