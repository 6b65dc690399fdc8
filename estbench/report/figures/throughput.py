"""How fast each estimator trains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import StrMethodFormatter

from estbench.report.analysis import frames
from estbench.report.figures.picture import Picture, series
from estbench.report.figures.style import FONT, INK, WIDTH, folded, own, owned, plain, text_width
from estbench.report.tables.base import TIMES, fixed, interval_note, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, log_t_interval, paired_ratio

if TYPE_CHECKING:
    from estbench.report.figures.style import Look
    from estbench.store import Results

HEAD = "seconds per step,\nrelative"


def draw(results: Results, problem: str, looks: dict[str, Look]) -> Picture | None:
    """Bars of examples per second, each with its paired ratio to the reference."""
    frame = frames.timings(results)
    frame = frame[frame["problem"] == problem]
    labels = [label for label in looks if label in set(frame["estimator"])]
    if not labels:
        return None
    several = len(set(frame["machine"])) > 1
    rates, notes, names = [], [], []
    for label in labels:
        mine = frame[frame["estimator"] == label]
        rates.append(log_t_interval(mine["batch_size"] / mine["seconds_per_step"]))
        notes.append(_ratio(mine, label))
        names.append(folded(label) + (f"\n  on {plain(mine['machine'].iloc[0])}" if several else ""))

    row = 0.33 + 0.13 * max(name.count("\n") for name in names)
    height = row * len(labels) + 0.95
    figure = Figure(figsize=(WIDTH, height))
    left, right = (
        min(0.4, (text_width(names) + 0.2) / WIDTH),
        1 - (text_width([*notes, *HEAD.split("\n")]) + 0.25) / WIDTH,
    )
    axes = figure.add_axes((left, 0.48 / height, right - left, 1 - 0.83 / height))
    sns.barplot(
        x=[rate.value for rate in rates],
        y=names,
        hue=names,
        palette=[looks[label].colour for label in labels],
        saturation=1,
        alpha=0.85,
        width=0.62,
        legend=False,
        ax=axes,
    )
    for bar, label in zip(axes.patches, labels, strict=True):
        own([bar], looks[label])
    for at, (label, rate, note) in enumerate(zip(labels, rates, notes, strict=True)):
        with owned(axes, looks[label]):
            if not math.isnan(rate.low):
                halo = [withStroke(linewidth=3, foreground="white")]
                axes.plot([rate.low, rate.high], [at, at], color=INK, linewidth=1.3, path_effects=halo)
            axes.annotate(
                note,
                (1, at),
                (8, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=FONT - 0.5,
            )
    axes.set(
        xlabel="training examples per second",
        ylabel="",
        xlim=(0, 1.04 * max(max(rate.value, rate.high if rate.n > 2 else 0) for rate in rates)),
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.annotate(
        HEAD,
        (1, 1),
        (8, 2),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=FONT - 1,
        color=INK,
    )
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for name, label in zip(axes.get_yticklabels(), labels, strict=True):
        own([name], looks[label])

    title = "Training speed"
    first = frame.iloc[0]
    listed = "; ".join(
        f"{label} {fixed(rate.value, 0)} examples per second, {note}"
        for label, rate, note in zip(labels, rates, notes, strict=True)
    )
    counts = sorted({rate.n for rate in rates})
    n = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    few = "; n < 3: no interval" if counts[0] < FEWEST_FOR_AN_INTERVAL else ""
    caption = (
        f"Training examples per second in steps timed alone (batch size {first['batch_size']}); bar: geometric mean "
        f"over rounds; line: 95 % t interval on the log scale (n = {n} rounds{few}). At the right: seconds per step "
        f"relative to {first['reference']}, paired by round."
    )
    reading = (
        "How to read it: longer is faster. The ratio at the right is the sharper comparison, because rounds are "
        "interleaved and a slow phase of the machine hits both of a pair; above 1 is slower than the reference."
    )
    data = pd.DataFrame(
        [
            {"estimator": label, "examples_per_second": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
            for label, rate in zip(labels, rates, strict=True)
        ]
    )
    read = []
    for at, (label, rate, note) in enumerate(zip(labels, rates, notes, strict=True)):
        told = interval_note(rate, fixed(rate.low, 0), fixed(rate.high, 0), "rounds")
        words = f"{fixed(rate.value, 0)} examples per second, {told}; {note}"
        read += series(axes, looks[label], [(rate.value, at, words)])
    alt = f"Bar chart. {title}: {listed}."
    return Picture("throughput", "throughput", title, alt, caption, reading, figure, data, tuple(read))


def _ratio(rows: pd.DataFrame, label: str) -> str:
    """The paired ratio of seconds in words."""
    if label == str(rows["reference"].iloc[0]):
        return "reference"
    paired = rows.dropna(subset="reference_seconds_per_step")
    ratio = paired_ratio(paired["seconds_per_step"], paired["reference_seconds_per_step"])
    if not ratio.n:
        return "not timed beside the reference"
    interval = "" if math.isnan(ratio.low) else f" [{significant(ratio.low)}, {significant(ratio.high)}]"
    return f"{significant(ratio.value)}{TIMES}{interval}"
