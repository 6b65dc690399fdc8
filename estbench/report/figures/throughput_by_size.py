"""Throughput and memory against the size of the minibatch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import FuncFormatter, NullLocator

from estbench.experiment.spec import EAGER
from estbench.report.analysis.wording import fixed, format_count, significant
from estbench.report.figures.limits import with_decades
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_above
from estbench.report.figures.style import SOFT, LineStyle, belongs_to
from estbench.stats import Interval, log_t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.analysis.launches import Growth

READING = (
    "How to read it: where a line rises with the grey guide, a larger minibatch is free, because the time of a step is "
    "that of launching operations. Where it is flat, the device is at work, and only there do ratios between "
    "estimators say what they cost it."
)


@register_figure(section="throughput", order=15)
def draw_throughput_by_size(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the rates and the memory of one problem at each size of minibatches, if several were timed."""
    growths = [growth for growth in source.analysis.growths if growth.problem == source.problem]
    timed = source.analysis.timings_by_size
    timed = timed[timed["problem"] == source.problem]
    styles = {label: style for label, style in source.styles.items() if label in {each.estimator for each in growths}}
    if not styles:
        return
    memory = timed["peak_memory_bytes"].notna().any()
    legend = legend_above(styles)
    canvas = Canvas.grid(
        3.2 + legend.height,
        columns=2 if memory else 1,
        margins=Margins(left=0.12, right=0.02, top=0.15, bottom=0.55),
        gaps=(0.34, None),
        legend=legend,
    )
    rows = []
    for growth in sorted(growths, key=lambda growth: source.analysis.estimators.index(growth.estimator)):
        style = styles[growth.estimator]
        own = timed[(timed["estimator"] == growth.estimator) & (timed["mode"] == growth.mode)]
        by_size = [own[own["batch_size"] == size] for size in growth.sizes]
        rates = [log_t_interval(each["batch_size"] / each["seconds_per_step"]) for each in by_size]
        peaks = [float(each["peak_memory_bytes"].astype(float).max()) for each in by_size]
        _draw_rates(canvas, growth, style, rates)
        if memory and not all(map(math.isnan, peaks)):
            _draw_memory(canvas, growth, style, peaks)
        rows += [
            {"estimator": growth.estimator, "mode": growth.mode, "batch_size": size, "peak_memory_bytes": peak}
            | {"examples_per_second": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
            for size, rate, peak in zip(growth.sizes, rates, peaks, strict=True)
        ]
    labels = ["training examples per second", "peak memory, MiB"]
    for axes, label in zip(canvas.places, labels, strict=False):
        _set_axes(axes, label, sorted(set(timed["batch_size"])))
    _draw_guide(canvas.places[0])

    title = "Throughput by size of minibatch"
    modes = "; thin lines, hollow markers: the compiled step" if len({growth.mode for growth in growths}) > 1 else ""
    knees = "; ".join(f"{_name(growth)} knee {growth.write_knee()}" for growth in growths)
    yield canvas.finish(
        name="throughput_by_size",
        title=title,
        chart="Line charts on log scales",
        alt=f"{title}: {knees}. Rates: {_spell_out(rows)}.",
        caption=f"Geometric means over rounds of steps timed alone, with 95 % t intervals{modes}. Upright stroke: "
        "the knee, below which most of the time of a step does not grow with the minibatch (launch-bound). Grey: a "
        "rate that grows in proportion to the size.",
        reading=READING,
        data=pd.DataFrame(rows),
    )


def _draw_rates(canvas: Canvas, growth: Growth, style: LineStyle, rates: list[Interval]) -> None:
    axes = canvas.places[0]
    with belongs_to(axes, style):
        axes.plot(growth.sizes, [rate.value for rate in rates], **_look(growth, style))
        for size, rate in zip(growth.sizes, rates, strict=True):
            if not math.isnan(rate.low):
                axes.plot([size, size], [rate.low, rate.high], color=style.colour, linewidth=1.3)
        knee = growth.time.knee
        if growth.sizes[0] <= knee <= growth.sizes[-1]:
            axes.plot([knee], [0.5 / growth.time.growing], "|", color=style.colour, markersize=16, markeredgewidth=2)
    words = "{} examples per second with {} examples in a step" + ("" if growth.mode == EAGER else ", compiled")
    points = [
        (size, rate.value, words.format(fixed(rate.value, 0), format_count(size)))
        for size, rate in zip(growth.sizes, rates, strict=True)
    ]
    canvas.add_points(axes, style, points)


def _draw_memory(canvas: Canvas, growth: Growth, style: LineStyle, peaks: list[float]) -> None:
    axes = canvas.places[1]
    mebibytes = [peak / 2**20 for peak in peaks]
    with belongs_to(axes, style):
        axes.plot(growth.sizes, mebibytes, **_look(growth, style))
    words = "{} MiB with {} examples in a step"
    points = [
        (size, value, words.format(significant(value), format_count(size)))
        for size, value in zip(growth.sizes, mebibytes, strict=True)
    ]
    canvas.add_points(axes, style, points)


def _draw_guide(axes: Axes) -> None:
    """Draw a line of slope one through the lower left corner, and leave the limits as they are."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.plot([left, right], [low, low * right / left], color=SOFT, linewidth=1, zorder=1)
    axes.set(xlim=(left, right), ylim=(low, high))


def _set_axes(axes: Axes, label: str, sizes: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="examples in a step", ylabel=label)
    axes.set_xticks(sizes, [format_count(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(*with_decades(*axes.get_ylim()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}"))


def _look(growth: Growth, style: LineStyle) -> dict[str, Any]:
    """Return how a line looks: that of a compiled step is thin, with hollow markers."""
    look = {"color": style.colour, "linestyle": style.linestyle, "marker": style.marker}
    return look if growth.mode == EAGER else {**look, "linewidth": 1, "markerfacecolor": "white"}


def _name(growth: Growth) -> str:
    return growth.estimator if growth.mode == EAGER else f"{growth.estimator} ({growth.mode})"


def _spell_out(rows: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{row['estimator']} {row['mode']} {fixed(row['examples_per_second'], 0)} at {row['batch_size']}"
        for row in rows
    )
