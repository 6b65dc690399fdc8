"""Gradient variance and what it costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from estbench.report.analysis import frames
from estbench.report.analysis.frames import costs
from estbench.report.figures.gradients import bars, variances, with_decades
from estbench.report.figures.picture import Picture, series
from estbench.report.figures.style import FONT, INK, SOFT, WIDTH, folded, own, owned, text_width
from estbench.report.tables.base import TIMES, interval_note, significant
from estbench.stats import Interval, log_t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import Look
    from estbench.store import Results

READING = (
    "How to read it: averaging k draws divides the variance by k and multiplies the cost by k, so the products "
    "stay the same; they compare estimators at equal cost. Further left is less noise for the same work."
)


def draw(results: Results, problem: str, looks: dict[str, Look]) -> Picture | None:
    """Variance at the last common checkpoint, alone, times evaluations and times seconds."""
    frame = variances(results, problem)
    step = frames.last_common_step(frame)
    if frame.empty or step is None:
        return None
    space, group = frames.groups(frame)[0]
    frame = frame[(frame["step"] == step) & (frame["space"] == space) & (frame["group"] == group)]
    found = {label: _interval(frame[frame["estimator"] == label]) for label in looks}
    found = {label: interval for label, interval in found.items() if interval.n and interval.value > 0}
    if not found:
        return None
    evaluations, milliseconds = costs(results, problem)
    panels = [("variance", dict.fromkeys(found, 1.0))]
    panels += [
        (title, known)
        for title, known in (
            (f"variance {TIMES} evaluations", evaluations),
            (f"variance {TIMES} ms per step", milliseconds),
        )
        if any(label in known for label in found)
    ]
    reference = frames.reference(results)

    names = {label: folded(label) for label in found}
    row = 0.3 if all("\n" not in name for name in names.values()) else 0.4
    height = row * len(found) + 0.85
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    left = min(0.4, (text_width(names.values()) + 0.2) / WIDTH)
    figure.subplots_adjust(left=left, right=0.975, top=1 - 0.35 / height, bottom=0.42 / height, wspace=0.12)
    for axes, (title, factors) in zip(grid, panels, strict=True):
        axes.set_xscale("log")
        for at, (label, interval) in enumerate(found.items()):
            if label in factors:
                with owned(axes, looks[label]):
                    _dot(axes, at, interval, factors[label], looks[label])
        if reference in found and reference in factors:
            _ratios(
                axes,
                {label: found[label].value * factors[label] for label in found if label in factors},
                reference,
                list(found),
                looks,
            )
            axes.axvline(
                found[reference].value * factors[reference],
                color=SOFT,
                linewidth=0.9,
                linestyle=(0, (2, 2)),
                zorder=1,
            )
        axes.set_title(title)
        _few_ticks(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for at in range(len(found)):
            axes.axhline(at, color="#f0f0f0", linewidth=0.7, zorder=0)
    grid[0].set_yticks(range(len(found)), list(names.values()))
    grid[0].set_ylim(len(found) - 0.5, -0.5)
    for name, label in zip(grid[0].get_yticklabels(), found, strict=True):
        own([name], looks[label])

    title = "Gradient variance against its cost"
    spelled = "; ".join(
        f"{label} "
        + ", ".join(significant(interval.value * factors[label]) for _, factors in panels if label in factors)
        for label, interval in found.items()
    )
    shown = bars(frame, "the dot is their geometric mean")
    exact = "evaluations of f per example" + (", and milliseconds per training step" if milliseconds else "")
    caption = (
        f"Variance of the {group} gradient ({space}) at step {step:,}, the last checkpoint that all finished cells "
        f"share, alone and multiplied by what a step costs; log scale. {shown} The cost is taken as exact: {exact}."
    )
    listed = ", ".join(name for name, _ in panels)
    alt = f"Dot plot. {title}: {group} gradient at step {step:,}; for each estimator {listed}: {spelled}."
    dashed = f" The dashed line is {reference}; the numbers are multiples of it." if reference in found else ""
    data = pd.DataFrame(
        [
            {
                "panel": name.replace(TIMES, "x"),
                "estimator": label,
                "value": interval.value * factors[label],
                "low": interval.low * factors[label],
                "high": interval.high * factors[label],
                "n": interval.n,
            }
            for name, factors in panels
            for label, interval in found.items()
            if label in factors
        ]
    )
    read = []
    for axes, (name, factors) in zip(grid, panels, strict=True):
        for at, (label, interval) in enumerate(found.items()):
            if label in factors:
                value, low, high = (significant(each * factors[label]) for each in interval[:3])
                words = f"{name} {value}, {interval_note(interval, low, high)}"
                read += series(axes, looks[label], [(interval.value * factors[label], at, words)])
    return Picture("variance_cost", "cost", title, alt, caption, READING + dashed, figure, data, tuple(read))


def _few_ticks(axes: Axes) -> None:
    axes.set_xlim(*with_decades(*axes.get_xlim()))
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def _dot(axes: Axes, at: int, interval: Interval, factor: float, look: Look) -> None:
    if not math.isnan(interval.low):
        axes.plot(
            [interval.low * factor, interval.high * factor],
            [at, at],
            color=look.colour,
            linewidth=1.6,
            solid_capstyle="butt",
        )
    axes.plot([interval.value * factor], [at], look.marker, color=look.colour, markersize=6)


def _ratios(axes: Axes, values: dict[str, float], reference: str, order: list[str], looks: dict[str, Look]) -> None:
    """Write how many times the reference each value is, on the side of the dot that has room."""
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    for label, value in values.items():
        if label == reference:
            continue
        rightward = math.log(value / low) < 0.55 * math.log(high / low)
        note = axes.annotate(
            f"{significant(value / values[reference])}{TIMES}",
            (value, order.index(label)),
            (7 if rightward else -7, 0),
            textcoords="offset points",
            ha="left" if rightward else "right",
            va="center",
            fontsize=FONT - 1.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
        own([note], looks[label])


def _interval(rows: pd.DataFrame) -> Interval:
    if len(rows) == 1:
        only = rows.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    return log_t_interval(rows["value"])
