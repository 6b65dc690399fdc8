"""Performance profiles: how often an estimator is within a factor of the cheapest.

rho_s(tau) = share of tasks p with t_(p,s) <= tau * min over s' of t_(p,s') (Dolan and More, Mathematical Programming
91, 2002), where a task is a problem and a seed, and t the cost of the target test ELBO.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import CURRENCIES, comparable
from estbench.report.analysis.targets import find_targets, times
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_below
from estbench.report.figures.style import belongs_to
from estbench.report.tables.base import TIMES, fixed, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from estbench.report.figures.style import LineStyle

# Nats below the best mean final bound: the first that no run had met before training.
PROFILE_GAPS = (5.0, 1.0)
TARGET = "The target is 5 nats below the best mean final bound (1 nat, if that was met before training)"
COLUMNS = ("estimator", "currency", "factor", "share")
Costs = dict[str, list[float]]  # by estimator, one per task


def tasks(analysis: Analysis, currency: str) -> Costs:
    """Return the costs of the target on the tasks in which all estimators have an outcome.

    If no target was given, it is the nearest of the table's targets that is at least 5 nats below the best.
    """
    by_problem = {}
    given = analysis.target
    for problem, runs in analysis.runs.items():
        if len(runs) > 1 and currency in comparable(analysis, runs):
            targets = find_targets(runs, analysis.contenders[problem], gaps=PROFILE_GAPS) if given is None else [given]
            for target in targets[:1]:
                by_problem[problem] = times(analysis, problem, runs, currency, target)
    labels = list(dict.fromkeys(label for costs in by_problem.values() for label in costs))
    costs: Costs = {label: [] for label in labels}
    for of_problem in by_problem.values():
        for seed in sorted(set.intersection(*(set(of_problem.get(label, {})) for label in labels))):
            for label in labels:
                costs[label].append(of_problem[label][seed].value)
    return costs


def ratios(costs: Costs) -> dict[str, NDArray[np.float64]]:
    """Return each cost over the least of its task; a miss is infinite, and so is all of a task that all missed."""
    table = np.array(list(costs.values()), dtype=float)
    if not table.size:
        return {}
    least = table.min(axis=0)
    safe = np.where(np.isfinite(table) & (least > 0), table / np.where((least > 0) & (least < math.inf), least, 1), 0)
    relative = np.where(safe > 0, safe, np.where(table == 0, 1.0, math.inf))
    return dict(zip(costs, relative, strict=True))


@register_figure(section="target", each_problem=False)
def draw_profile(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the profiles over several problems: one panel for evaluations, one for training seconds."""
    if len(source.analysis.problems) < 2:
        return  # the seeds of one problem make a staircase of a few steps
    panels = {name: shares for name in ("evaluations", "seconds") if (shares := ratios(tasks(source.analysis, name)))}
    if not panels:
        return
    styles = {label: style for label, style in source.styles.items() if any(label in each for each in panels.values())}
    legend = legend_below(styles)
    height = 2.9 + legend.height
    canvas = Canvas.grid(
        height,
        columns=len(panels),
        margins=Margins(left=0.09, right=0.02, top=0.09 * height, bottom=0.55),
        gaps=(0.08, None),
        share_y=True,
        legend=legend,
    )
    finite = np.concatenate([values[np.isfinite(values)] for each in panels.values() for values in each.values()])
    right = 1.15 * max(float(finite.max(initial=1)), 1.5)
    data = []
    for axes, (currency, factors) in zip(canvas.places, panels.items(), strict=True):
        for at, (label, values) in enumerate(factors.items()):
            with belongs_to(axes, styles[label]):
                _draw_steps(axes, values, right, styles[label], nudge=0.004 * (at - (len(factors) - 1) / 2))
            points = _points(values)
            data += [{"estimator": label, "currency": currency, "factor": x, "share": y} for x, y in points]
            words = [(x, y, f"{100 * y:.0f} % of n = {len(values)} within {significant(x)}{TIMES}") for x, y in points]
            canvas.add_points(axes, styles[label], words)
        axes.set(xscale="log", xlim=(0.96, right), ylim=(-0.03, 1.05), title=CURRENCIES[currency])
        axes.set_xlabel("cost / cost of the cheapest")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}" + TIMES))
        axes.xaxis.set_minor_formatter(NullFormatter())
        ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000, 10000) if tick <= right]
        axes.set_xticks(ticks if len(ticks) <= 6 else [tick for tick in ticks if math.log10(tick) % 1 == 0])
    canvas.panels[0, 0].set_ylabel("share of runs that reached the target")
    title = "Performance profile: cost of the target"
    ends = "; ".join(f"{CURRENCIES[name]}: " + ", ".join(map(_end, each.items())) for name, each in panels.items())
    count = len(next(iter(next(iter(panels.values())).values())))
    given = source.analysis.target
    yield canvas.finish(
        name="profile",
        title=title,
        chart="Step chart",
        alt=f"{title}. {ends}.",
        caption=f"Share of the runs (problem {TIMES} seed, n = {count}) in which an estimator reached the target test "
        "ELBO within a factor of the cheapest estimator's cost in the same run. "
        f"{TARGET if given is None else f'The target, {fixed(given)} nats, was given'}; a run that diverged or missed "
        "it stays at 0. "
        "Costs between two evaluations are on the straight line between them; a profile has no interval. Overlapping "
        "lines are shifted slightly.",
        reading="How to read it: at the left edge, how often an estimator was the cheapest; at the right edge, how "
        "often it reached the target at all. Higher is better everywhere.",
        data=pd.DataFrame(data, columns=list(COLUMNS)),
    )


def _points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return each factor that was reached, with the share of the runs within it."""
    reached = np.sort(values[np.isfinite(values)])
    return [(float(x), (at + 1) / len(values)) for at, x in enumerate(reached)]


def _draw_steps(axes: Axes, values: NDArray[np.float64], right: float, style: LineStyle, nudge: float) -> None:
    reached = np.sort(values[np.isfinite(values)])
    shares = np.arange(1, len(reached) + 1) / len(values)
    x = np.concatenate([[0.9], reached, [right]])
    y = np.concatenate([[0.0], shares, [len(reached) / len(values)]]) + nudge
    axes.step(x, y, where="post", color=style.colour, linestyle=style.linestyle)
    axes.plot(reached, shares + nudge, style.marker, color=style.colour, markersize=3.5)


def _end(item: tuple[str, NDArray[np.float64]]) -> str:
    label, values = item
    reached = int(np.isfinite(values).sum())
    within = ""
    if 2 * reached > len(values):
        within = f", typically within {significant(float(np.median(values)))}{TIMES} of the cheapest"
    return f"{label} reached it in {reached} of {len(values)}{within}"
