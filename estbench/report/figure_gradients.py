"""Gradient variance along training, and what it costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from estbench.report import extract
from estbench.report.style import FONT, INK, SOFT, WIDTH, Picture, folded, legend_handles, render, text_width
from estbench.report.table import TIMES, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from estbench.report.style import Look
    from estbench.store import Results

MEANING = (
    "Trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch, from R = {R} "
    "independent draws; each estimator at the weights of its own training."
)


def variance(results: Results, problem: str, looks: dict[str, Look]) -> Picture | None:
    """Gradient variance against steps, one panel per space and group."""
    frame = _variances(results, problem)
    if frame.empty:
        return None
    panels = extract.groups(frame)
    chosen = {label: look for label, look in looks.items() if label in set(frame["estimator"])}
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend_rows = math.ceil(len(chosen) / _legend_columns(chosen))
    head = 0.12 + 0.19 * legend_rows
    height = 2.3 * rows + 0.35 + head
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.095, right=0.985, top=1 - (head + 0.25) / height, bottom=0.5 / height, hspace=0.42, wspace=0.24
    )
    handles = legend_handles(chosen)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.05, 1.0),
        ncols=_legend_columns(chosen),
        handlelength=3.4,
    )
    for axes, (space, group) in zip(grid.flat, panels, strict=False):
        _panel(axes, frame[(frame["space"] == space) & (frame["group"] == group)], chosen)
        axes.set(
            title=f"{group} ({'weights' if space == 'weights' else 'variational parameters'})",
            xlabel="",
            ylabel="",
        )
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    for at in range(columns):
        lowest = max(index for index in range(len(panels)) if index % columns == at)
        grid.flat[lowest].set_xlabel("training step (log scale)")
    for axes in grid[:, 0]:
        axes.set_ylabel("gradient variance")

    svg, png = render(figure)
    title = "Gradient variance against training steps"
    return Picture(
        "gradient_variance",
        "gradients",
        title,
        _alt(frame, title),
        _caption(frame),
        READING["variance"],
        svg,
        png,
    )


def cost(results: Results, problem: str, looks: dict[str, Look]) -> Picture | None:
    """Variance at the last common checkpoint, alone, times evaluations and times seconds."""
    frame = _variances(results, problem)
    step = extract.last_common_step(frame)
    if frame.empty or step is None:
        return None
    space, group = extract.groups(frame)[0]
    frame = frame[(frame["step"] == step) & (frame["space"] == space) & (frame["group"] == group)]
    found = {label: _interval(frame[frame["estimator"] == label]) for label in looks}
    found = {label: interval for label, interval in found.items() if interval.n and interval.value > 0}
    if not found:
        return None
    evaluations, milliseconds = _costs(results, problem)
    panels = [("variance", dict.fromkeys(found, 1.0))]
    panels += [
        (title, known)
        for title, known in (
            (f"variance {TIMES} evaluations", evaluations),
            (f"variance {TIMES} ms per step", milliseconds),
        )
        if any(label in known for label in found)
    ]
    reference = extract.reference(results)

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
                _dot(axes, at, interval, factors[label], looks[label])
        if reference in found and reference in factors:
            _ratios(
                axes,
                {label: found[label].value * factors[label] for label in found if label in factors},
                reference,
                list(found),
            )
        if reference in found and reference in factors:
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

    svg, png = render(figure)
    title = "Gradient variance against its cost"
    spelled = "; ".join(
        f"{label} "
        + ", ".join(significant(interval.value * factors[label]) for _, factors in panels if label in factors)
        for label, interval in found.items()
    )
    bars = _bars(frame, "the dot is their geometric mean")
    exact = "evaluations of f per example" + (", and milliseconds per training step" if milliseconds else "")
    caption = (
        f"Variance of the {group} gradient ({space}) at step {step:,}, the last checkpoint that all finished cells "
        f"share, alone and multiplied by what a step costs; log scale. {bars} The cost is taken as exact: {exact}."
    )
    listed = ", ".join(name for name, _ in panels)
    alt = f"Dot plot. {title}: {group} gradient at step {step:,}; for each estimator {listed}: {spelled}."
    dashed = f" The dashed line is {reference}; the numbers are multiples of it." if reference in found else ""
    return Picture("variance_cost", "cost", title, alt, caption, READING["cost"] + dashed, svg, png)


READING = {
    "variance": "How to read it: lower is less noise from the estimator; each gridline is a factor of ten or more. "
    "Only the noise is shown: an estimator with little variance may still be biased.",
    "cost": "How to read it: averaging k draws divides the variance by k and multiplies the cost by k, so the products "
    "stay the same; they compare estimators at equal cost. Further left is less noise for the same work.",
}


def _variances(results: Results, problem: str) -> pd.DataFrame:
    frame = extract.gradients(results)
    return frame[(frame["problem"] == problem) & (frame["statistic"] == "variance")]


def _panel(axes: Axes, frame: pd.DataFrame, looks: dict[str, Look]) -> None:
    for label, look in looks.items():
        mine = frame[(frame["estimator"] == label) & (frame["value"] > 0)].sort_values("step")
        if mine.empty:
            continue
        common = {"x": "step", "y": "value", "ax": axes, "color": look.colour, "legend": False}
        common |= {"linestyle": look.linestyle, "marker": look.marker, "markeredgewidth": 0}
        seeds = mine["seed"].nunique()
        if seeds >= FEWEST_FOR_AN_INTERVAL:
            sns.lineplot(mine, **common, estimator=_middle, errorbar=_band, err_kws={"alpha": 0.18, "linewidth": 0})
        else:
            sns.lineplot(mine, **common, units="seed", estimator=None, linewidth=1.1)
        if seeds == 1:
            axes.fill_between(mine["step"], mine["low"], mine["high"], color=look.colour, alpha=0.18, linewidth=0)
    positive = frame.loc[frame["step"] > 0, "step"]
    if len(positive):  # a checkpoint at step 0 stands beside the logarithmic part
        scale = (
            {"value": "symlog", "linthresh": float(positive.min())} if (frame["step"] == 0).any() else {"value": "log"}
        )
        axes.set_xscale(**scale)
    axes.xaxis.set_minor_locator(NullLocator())
    if (frame["value"] > 0).any():
        axes.set_yscale("log")
        axes.set_ylim(*_with_decades(*axes.get_ylim()))
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())


def _legend_columns(looks: dict[str, Look]) -> int:
    """As many columns as the widest label leaves room for."""
    return max(1, min(4, int((WIDTH - 0.5) / (text_width(looks) + 0.7))))


def _with_decades(low: float, high: float) -> tuple[float, float]:
    """Limits with at least two powers of ten between them, so that a narrow range keeps its labels."""
    first, last = math.log10(low), math.log10(high)
    if math.floor(last) - math.ceil(first) >= 1:
        return low, high
    return 10.0 ** (math.floor(first) - 0.2), 10.0 ** (max(math.ceil(last), math.floor(first) + 1) + 0.2)


def _few_ticks(axes: Axes) -> None:
    axes.set_xlim(*_with_decades(*axes.get_xlim()))
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


def _ratios(axes: Axes, values: dict[str, float], reference: str, order: list[str]) -> None:
    """Write how many times the reference each value is, on the side of the dot that has room."""
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    for label, value in values.items():
        if label == reference:
            continue
        rightward = math.log(value / low) < 0.55 * math.log(high / low)
        axes.annotate(
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


def _interval(rows: pd.DataFrame) -> Interval:
    if len(rows) == 1:
        only = rows.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    return log_t_interval(rows["value"])


def _middle(values: Sequence[float]) -> float:
    return log_t_interval(values).value


def _band(values: Sequence[float]) -> tuple[float, float]:
    interval = log_t_interval(values)
    return interval.low, interval.high


def _costs(results: Results, problem: str) -> tuple[dict[str, float], dict[str, float]]:
    """Evaluations per example, and milliseconds per step, of each estimator that has them."""
    planned = extract.done(extract.cells(results))
    planned = planned[(planned["problem"] == problem) & (planned["examples"] > 0)]
    evaluations = (planned["evaluations"] / planned["examples"]).groupby(planned["estimator"]).mean()
    timed = extract.timings(results)
    timed = timed[timed["problem"] == problem]
    if len(set(timed["machine"])) > 1:  # times of different machines are not comparable
        timed = timed.iloc[:0]
    milliseconds = {
        str(label): 1e3 * log_t_interval(rows["seconds_per_step"]).value for label, rows in timed.groupby("estimator")
    }
    return {str(label): float(value) for label, value in evaluations.items() if value > 0}, milliseconds


def _bars(frame: pd.DataFrame, two: str) -> str:
    """What dots and bars are, by how many seeds there are."""
    seeds = frame.groupby("estimator", sort=False)["seed"].nunique()
    parts = []
    if (seeds >= FEWEST_FOR_AN_INTERVAL).any():
        parts.append(
            f"Geometric mean over seeds with the 95 % t interval on the log scale ({_counts(seeds[seeds >= 3])})."
        )
    if (seeds == 2).any():
        parts.append(f"Where n = 2 seeds, {two}; n < 3: no interval.")
    if (seeds == 1).any():
        parts.append("Where n = 1 seed, the interval is the probe's own: the 95 % jackknife over its R draws.")
    return " ".join(parts)


def _counts(seeds: pd.Series[int]) -> str:
    if len(set(seeds)) == 1:
        return f"n = {seeds.iloc[0]} seeds"
    return ", ".join(f"{label}: n = {count}" for label, count in seeds.items())


def _caption(frame: pd.DataFrame) -> str:
    parts = [MEANING.format(R=int(frame["replicates"].min())), _bars(frame, "each has its thin line")]
    zero = frame[frame["value"] <= 0]
    if len(zero):
        named = sorted({f"{row.estimator} ({row.group})" for row in zero.itertuples()})
        parts.append(f"Exactly zero at some checkpoint, so not on a log scale there: {', '.join(named)}.")
    return " ".join(parts)


def _alt(frame: pd.DataFrame, title: str) -> str:
    step = frame["step"].max()
    space, group = extract.groups(frame)[0]
    last = frame[(frame["step"] == step) & (frame["space"] == space) & (frame["group"] == group)]
    ends = {str(label): log_t_interval(rows["value"]).value for label, rows in last.groupby("estimator")}
    listed = "; ".join(
        f"{label} {significant(value)}" for label, value in sorted(ends.items(), key=lambda item: item[1])
    )
    panels = ", ".join(f"{group} ({space})" for space, group in extract.groups(frame))
    return (
        f"Line charts on log scales. {title}; panels: {panels}. "
        f"Variance of the {group} gradient at step {step:,}, lowest first: {listed}."
    )
