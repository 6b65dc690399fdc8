"""The training speed of each estimator."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.patheffects import withStroke
from matplotlib.ticker import StrMethodFormatter

from estbench.report.analysis.paired import relative_time
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, label_margin, mark_row_labels, show_rows, text_margin
from estbench.report.figures.style import FONT, INK, LineStyle, belongs_to, is_narrow, mark, matplotlib_text, wrap_label
from estbench.report.tables.base import TIMES, fixed, interval_note, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, log_t_interval

HEAD = "seconds per step,\nrelative"
READING = (
    "How to read it: longer is faster. The ratio at the right is the sharper comparison, because rounds are "
    "interleaved and a slow phase of the machine hits both of a pair; above 1 is slower than the reference."
)


@register_figure(section="throughput")
def draw_throughput(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the training speed on one problem."""
    timings = source.analysis.timings
    timings = timings[timings["problem"] == source.problem]
    styles = {label: style for label, style in source.styles.items() if label in set(timings["estimator"])}
    if styles:
        yield draw_speeds(timings, styles)


def draw_speeds(timings: pd.DataFrame, styles: dict[str, LineStyle]) -> RenderedFigure:
    """Draw bars of examples per second, each with its paired ratio to the reference.

    Parameters
    ----------
    timings
        Timed rounds of each estimator, with the reference's time in the same round beside it.
    """
    by_label = {label: timings[timings["estimator"] == label] for label in styles}
    rates = [log_t_interval(rows["batch_size"] / rows["seconds_per_step"]) for rows in by_label.values()]
    notes = [_ratio(rows, label) for label, rows in by_label.items()]
    names = [wrap_label(label) for label in styles]
    if len(set(timings["machine"])) > 1:
        machines = [matplotlib_text(rows["machine"].iloc[0]) for rows in by_label.values()]
        names = [f"{name}\n  on {machine}" for name, machine in zip(names, machines, strict=True)]

    if is_narrow():
        names = [f"{name}\n  {note}" for name, note in zip(names, notes, strict=True)]
    row = 0.33 + 0.13 * max(name.count("\n") for name in names)
    right = 0.03 if is_narrow() else text_margin([*notes, *HEAD.split("\n")], 0.25)
    canvas = Canvas.single(row * len(names) + 0.95, Margins(label_margin(names), right, top=0.35, bottom=0.48))
    (axes,) = canvas.places
    bars = axes.barh(
        range(len(names)),
        [rate.value for rate in rates],
        0.62,
        color=[style.colour for style in styles.values()],
        alpha=0.85,
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for bar, style in zip(bars, styles.values(), strict=True):
        mark([bar], style)
    for at, (style, rate, note) in enumerate(zip(styles.values(), rates, notes, strict=True)):
        with belongs_to(axes, style):
            if not math.isnan(rate.low):
                halo = [withStroke(linewidth=3, foreground="white")]
                axes.plot([rate.low, rate.high], [at, at], color=INK, linewidth=1.3, path_effects=halo)
            if not is_narrow():
                axes.annotate(
                    note,
                    (1, at),
                    (8, 0),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    va="center",
                    fontsize=FONT - 0.5,
                )
        interval = interval_note(rate, fixed(rate.low, 0), fixed(rate.high, 0), "rounds")
        words = f"{fixed(rate.value, 0)} examples per second, {interval}; {note}"
        canvas.add_points(axes, style, [(rate.value, at, words)])
    axes.set(
        xlabel="training examples per second",
        ylabel="",
        xlim=(0, 1.04 * max(max(rate.value, rate.high if rate.n > 2 else 0) for rate in rates)),
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if not is_narrow():
        axes.annotate(
            HEAD,
            (1, 1),
            (8, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=FONT - 1,
            color=INK,
        )
    show_rows(axes)
    mark_row_labels(axes, styles.values())

    title = "Training speed"
    first = timings.iloc[0]
    listed = "; ".join(
        f"{label} {fixed(rate.value, 0)} examples per second, {note}"
        for label, rate, note in zip(styles, rates, notes, strict=True)
    )
    counts = sorted({rate.n for rate in rates})
    n = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    n += " round" if n == "1" else " rounds"
    few = "; fewer than 3: no interval" if counts[0] < FEWEST_FOR_AN_INTERVAL else ""
    return canvas.finish(
        name="throughput",
        title=title,
        chart="Bar chart",
        alt=f"{title}: {listed}.",
        caption=f"Training examples per second in steps timed alone (batch size {first['batch_size']}); bar: geometric "
        f"mean over rounds; line: 95 % t interval on the log scale (n = {n}{few}). At the right: seconds per "
        f"step relative to {first['reference']}, paired by round.",
        reading=READING,
        data=pd.DataFrame(
            [
                {"estimator": label, "examples_per_second": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
                for label, rate in zip(styles, rates, strict=True)
            ]
        ),
    )


def _ratio(rows: pd.DataFrame, label: str) -> str:
    """Return the paired ratio of seconds per step to the reference, in words."""
    if label == str(rows["reference"].iloc[0]):
        return "reference"
    ratio = relative_time(rows)
    if not ratio.n:
        return "not timed beside the reference"
    interval = "" if math.isnan(ratio.low) else f" [{significant(ratio.low)}, {significant(ratio.high)}]"
    return f"{significant(ratio.value)}{TIMES}{interval}"
