"""One probe as a dot plot: variance with its interval, alone and times what a gradient costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from estbench.report.figures.gradients import with_decades
from estbench.report.figures.style import WIDTH, folded, text_width
from estbench.report.tables.base import TIMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from estbench.report.figures.style import Look

COSTS = {
    "variance": None,
    f"variance {TIMES} evaluations": "evaluations",
    f"variance {TIMES} ms": "milliseconds",
}


def draw(frame: pd.DataFrame, looks: dict[str, Look]) -> Figure:
    """One row of panels per group, weights first."""
    variances = frame[(frame["statistic"] == "variance") & (frame["value"] > 0)]
    groups = list(dict.fromkeys(zip(variances["space"], variances["group"], strict=True)))
    groups.sort(key=lambda pair: pair[0] != "weights")
    height = 0.6 + len(groups) * (0.55 + 0.24 * len(looks))
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(max(1, len(groups)), len(COSTS), squeeze=False)
    names = {label: folded(label) for label in looks}
    left = min(0.4, (text_width(names.values()) + 0.2) / WIDTH)
    figure.subplots_adjust(left=left, right=0.975, top=1 - 0.35 / height, bottom=0.5 / height, wspace=0.14, hspace=0.75)
    for line, (space, group) in zip(grid, groups, strict=False):
        here = variances[(variances["space"] == space) & (variances["group"] == group)]
        for axes, (title, cost) in zip(line, COSTS.items(), strict=True):
            _panel(axes, here, cost, looks)
            if (space, group) == groups[-1]:
                axes.set_xlabel(title)
        line[0].set_title(f"{group} ({space})")
        line[0].set_yticks(range(len(looks)), list(names.values()))
        for axes in line[1:]:
            axes.set_yticks(range(len(looks)), [])
    if not groups:
        grid[0][0].set_title("no estimator has any variance")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, cost: str | None, looks: dict[str, Look]) -> None:
    axes.set_xscale("log")
    kept = []
    for row in rows.to_dict("records"):
        at, look = list(looks).index(row["estimator"]), looks[row["estimator"]]
        factor = float(row[cost]) if cost else 1.0
        low, high = row["low"] * factor, row["high"] * factor
        if not math.isnan(low) and low > 0:
            axes.plot([low, high], [at, at], color=look.colour, linewidth=1.6, solid_capstyle="butt")
            kept += [low, high]
        axes.plot([row["value"] * factor], [at], look.marker, color=look.colour, markersize=6)
        kept.append(row["value"] * factor)
    axes.set_ylim(len(looks) - 0.5, -0.5)
    pad = (max(kept) / min(kept)) ** 0.08
    axes.set_xlim(*with_decades(min(kept) / pad, max(kept) * pad))
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
