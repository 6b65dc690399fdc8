"""The answer as a figure: how far each contender ends below the best, by seed and on average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from estbench.report.analysis.wording import fixed, format_list
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, label_margin, show_rows
from estbench.report.figures.style import belongs_to, is_narrow, wrap_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.analysis.leaderboard import Entrant, Leaderboard
    from estbench.report.figures.style import LineStyle

COLUMNS = ("estimator", "seed", "bound", "below_best")
# A gap below this has no place on the log axis, and stands at its left end.
SMALLEST = 0.01
FEW_DECADES = 50  # times the left end: over less, powers of ten alone would leave an axis without numbers
BESIDE = 5.4  # inches: it stands beside text


@register_figure(section="answer")
def draw_final_bounds(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the final bound of every run of a contender, and the mean with its interval, below the best mean."""
    board = source.analysis.leaderboard(source.problem)
    if board is None or len(board.contenders) < 2:
        return
    yield _draw(board, source.analysis.name_bound(board.problem), source.styles)


def _draw(board: Leaderboard, bound: str, styles: dict[str, LineStyle]) -> RenderedFigure:
    contenders, best = board.contenders, board.contenders[0].bound.value
    names = [wrap_label(entrant.estimator) for entrant in contenders]
    row = 0.27 if all("\n" not in name for name in names) else 0.33
    height = 0.6 + row * len(contenders)
    margins = Margins(left=label_margin(names, BESIDE), right=0.03, top=0.05, bottom=0.5)
    canvas = Canvas.single(height, margins, width=BESIDE)
    axes = canvas.panels[0, 0]
    left = _find_left_end(contenders, best)
    for at, entrant in enumerate(contenders):
        style = styles[entrant.estimator]
        with belongs_to(axes, style):
            _draw_entrant(axes, entrant, best, at, left, style)
        words = [
            (_place(best - value, left), at, f"seed {seed}: {fixed(value, 1)} nats")
            for seed, value in sorted(entrant.finals.items())
        ]
        canvas.add_points(axes, style, words)
    axes.set(xscale="log", ylim=(len(contenders) - 0.4, -0.6), yticks=range(len(contenders)))
    axes.set_yticklabels(names)
    right = max(1.0, *(best - min(each.finals.values()) for each in contenders)) * 1.6
    axes.set_xlim(left / 1.25, right)
    if right < FEW_DECADES * left:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("nats below the best mean" if is_narrow() else f"nats below the best mean test {bound}, log scale")
    show_rows(axes)
    off = [entrant.estimator for entrant in board.entrants if entrant.rank is None and entrant.bound.n]
    left_out = f" Not drawn, because a run collapsed: {format_list(off)}." if off else ""
    ends = "; ".join(f"{each.estimator} {fixed(each.bound.value, 1)}" for each in contenders)
    return canvas.finish(
        name="final_bounds",
        title=f"Final test {bound}",
        chart="Dot plot",
        alt=f"Final test {bound} in nats, best first: {ends}.{left_out}",
        caption="Rings: runs. Dots and bars: the mean over seeds and its 95 % t interval. What is at or above the best "
        f"mean stands at the left end.{left_out}",
        reading="How to read it: to the left is better. On the log scale, equal steps are equal factors.",
        data=pd.DataFrame(
            [
                (each.estimator, seed, value, best - value)
                for each in contenders
                for seed, value in sorted(each.finals.items())
            ],
            columns=list(COLUMNS),
        ),
    )


def _draw_entrant(axes: Axes, entrant: Entrant, best: float, at: int, left: float, style: LineStyle) -> None:
    values = [_place(best - value, left) for value in entrant.finals.values()]
    axes.plot(values, [at] * len(values), "o", markersize=5, markerfacecolor="none", color=style.colour, linewidth=1)
    mean, low, high, _ = entrant.bound
    if not math.isnan(low):
        ends = [_place(best - high, left), _place(best - low, left)]
        axes.plot(ends, [at, at], color=style.colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([_place(best - mean, left)], [at], "o", markersize=7, color=style.colour)


def _find_left_end(contenders: list[Entrant], best: float) -> float:
    """Return the left end of the axis: a little below the smallest positive gap, at least ``SMALLEST``."""
    gaps = [best - value for entrant in contenders for value in entrant.finals.values()]
    means = [best - entrant.bound.value for entrant in contenders[1:]]
    positive = [gap for gap in [*gaps, *means] if gap > 0]
    return max(SMALLEST, 0.5 * min(positive, default=1.0))


def _place(gap: float, left: float) -> float:
    return max(gap, left)
