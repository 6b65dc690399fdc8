"""Along training: the gradient's variance, its signal-to-noise ratio, and its bias where it is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from estbench.report.analysis import frames
from estbench.report.figures.picture import Picture, Series, series
from estbench.report.figures.style import WIDTH, legend_handles, own, owned, text_width
from estbench.report.tables.base import interval_note, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval, t_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from estbench.report.figures.style import Look
    from estbench.store import Results


class Quantity(NamedTuple):
    """A statistic of the gradient as a figure shows it."""

    name: str  # of the figure
    title: str
    axis: str
    over_seeds: Callable[[Any], Interval]
    meaning: str
    reading: str


QUANTITIES = {
    "variance": Quantity(
        "gradient_variance",
        "Gradient variance against training steps",
        "gradient variance",
        log_t_interval,
        "Trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch",
        "How to read it: lower is less noise from the estimator; each gridline is a factor of ten or more. "
        "Only the noise is shown: an estimator with little variance may still be biased.",
    ),
    "snr": Quantity(
        "gradient_snr",
        "Signal-to-noise ratio of the gradient against training steps",
        "signal-to-noise ratio",
        t_interval,
        "Norm of the mean gradient over the root of its variance, at frozen weights and one fixed minibatch",
        "How to read it: higher is better; at 1 the gradient is as large as its noise. Where it is far below 1, a step "
        "goes nearly anywhere, and only the average of many steps makes progress.",
    ),
    "bias2": Quantity(
        "gradient_bias",
        "Squared bias of the gradient against training steps",
        "squared bias",
        t_interval,
        "Squared distance of the mean gradient from the exact one, at frozen weights and one fixed minibatch",
        "How to read it: lower is better. It is an unbiased estimate, so that of an unbiased estimator scatters around "
        "zero, and half of its values cannot stand on a log scale.",
    ),
}
PLACES = {
    "own": "each estimator at the weights of its own training",
    "shared": "all estimators at the same checkpoints of one neutral run",
}


def draw(
    results: Results, problem: str, looks: dict[str, Look], statistic: str = "variance", trajectory: str = "own"
) -> Picture | None:
    """A statistic of the gradient against steps, one panel per space and group."""
    quantity, frame = QUANTITIES[statistic], variances(results, problem, statistic, trajectory)
    if frame.empty:
        return None
    panels = _panels(frame)
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
    legend = figure.legend(
        handles=legend_handles(chosen),
        loc="upper left",
        bbox_to_anchor=(0.05, 1.0),
        ncols=_legend_columns(chosen),
        handlelength=3.4,
    )
    for line, text, look in zip(legend.get_lines(), legend.get_texts(), chosen.values(), strict=True):
        own([line, text], look)
    drawn: list[pd.DataFrame] = []
    read: list[Series] = []
    for axes, (space, group) in zip(grid.flat, panels, strict=False):
        of_panel = frame[(frame["space"] == space) & (frame["group"] == group)]
        lines = [line for label in chosen for line in _lines(of_panel[of_panel["estimator"] == label], quantity)]
        _panel(axes, of_panel, lines, chosen, quantity)
        drawn += [line.assign(space=space, group=group) for line in lines]
        read += [found for line in lines for found in _readable(axes, group, line, chosen)]
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
        axes.set_ylabel(quantity.axis)

    shared = trajectory != frames.TRAJECTORY
    title = f"{quantity.title}{f' ({trajectory} trajectory)' if shared else ''}"
    return Picture(
        f"{quantity.name}_{trajectory}" if shared else quantity.name,
        "gradients",
        title,
        _alt(frame, title, quantity),
        _caption(frame, quantity, trajectory),
        quantity.reading,
        figure,
        pd.concat(drawn, ignore_index=True),
        tuple(read),
    )


def _panels(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Spaces and groups that have anything to show on a log scale; all of them where none has."""
    return frames.groups(frame[frame["value"] > 0]) or frames.groups(frame)


def trajectories(results: Results) -> list[str]:
    """Where gradients were measured: the fair comparison first."""
    found = set(results.gradients["trajectory"])
    return [*(name for name in ("shared", frames.TRAJECTORY) if name in found)]


def variances(
    results: Results, problem: str, statistic: str = "variance", trajectory: str = frames.TRAJECTORY
) -> pd.DataFrame:
    """Finite values of one statistic on one problem."""
    frame = frames.gradients(results, trajectory)
    return frame[(frame["problem"] == problem) & (frame["statistic"] == statistic)]


def _lines(rows: pd.DataFrame, quantity: Quantity) -> list[pd.DataFrame]:
    """What is drawn of one estimator in one panel: its mean, or each of its seeds where they are too few for one."""
    seeds = len(set(rows["seed"]))
    if 0 < seeds < FEWEST_FOR_AN_INTERVAL:
        ends = {} if seeds == 1 else {"low": np.nan, "high": np.nan}  # two seeds: no interval
        columns = ["estimator", "seed", "step", "value", "low", "high"]
        return [
            one.sort_values("step")[columns].assign(seed=str(seed), n=1, **ends) for seed, one in rows.groupby("seed")
        ]
    means = [
        {"estimator": of_step["estimator"].iloc[0], "seed": "mean", "step": step}
        | quantity.over_seeds(of_step["value"])._asdict()
        for step, of_step in rows.groupby("step")
    ]
    return [pd.DataFrame(means)] if means else []


def _panel(
    axes: Axes, frame: pd.DataFrame, lines: list[pd.DataFrame], looks: dict[str, Look], quantity: Quantity
) -> None:
    for line in lines:
        look, mean = looks[line["estimator"].iloc[0]], line["seed"].iloc[0] == "mean"
        above = line[line["value"] > 0]
        if above.empty:
            continue
        with owned(axes, look):
            # Not seaborn's lineplot, which sorts and groups what is one line already, at 10 ms each.
            axes.plot(
                above["step"],
                above["value"],
                color=look.colour,
                linestyle=look.linestyle,
                marker=look.marker,
                markeredgewidth=0,
                linewidth=1.8 if mean else 1.1,
            )
            # What reaches zero on a log scale is cut at the axis.
            low = above["low"].where(above["low"].isna() | (above["low"] > 0), above["value"] * 1e-12)
            axes.fill_between(above["step"], low, above["high"], color=look.colour, alpha=0.18, linewidth=0)
    positive = frame.loc[frame["step"] > 0, "step"]
    if len(positive):  # a checkpoint at step 0 stands beside the logarithmic part
        scale = (
            {"value": "symlog", "linthresh": float(positive.min())} if (frame["step"] == 0).any() else {"value": "log"}
        )
        axes.set_xscale(**scale)
    axes.xaxis.set_minor_locator(NullLocator())
    drawn = pd.concat(lines)
    drawn = drawn[drawn["value"] > 0]
    if len(drawn):
        axes.set_yscale("log")
        kept = [*drawn["value"], *drawn["high"].dropna(), *drawn.loc[drawn["low"] > 0, "low"]]
        if quantity.over_seeds is t_interval:  # its ends may come arbitrarily near zero
            kept = [*drawn["value"], *drawn["high"].dropna()]
        pad = (max(kept) / min(kept)) ** 0.05
        axes.set_ylim(*with_decades(min(kept) / pad, max(kept) * pad))
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())


def _readable(axes: Axes, group: str, line: pd.DataFrame, looks: dict[str, Look]) -> list[Series]:
    points = []
    for row in line[line["value"] > 0].to_dict("records"):
        over = Interval(row["value"], row["low"], row["high"], int(row["n"]))
        note = interval_note(over, significant(over.low), significant(over.high))
        seed = "" if row["seed"] == "mean" else f", seed {row['seed']}"
        words = f"{group}, step {row['step']:,}{seed}: {significant(over.value)}, {note}"
        points.append((row["step"], row["value"], words))
    return series(axes, looks[line["estimator"].iloc[0]], points)


def _legend_columns(looks: dict[str, Look]) -> int:
    """As many columns as the widest label leaves room for."""
    return max(1, min(4, int((WIDTH - 0.5) / (text_width(looks) + 0.7))))


def with_decades(low: float, high: float) -> tuple[float, float]:
    """Limits with at least two powers of ten between them, so that a narrow range keeps its labels."""
    first, last = math.log10(low), math.log10(high)
    if math.floor(last) - math.ceil(first) >= 1:
        return low, high
    return 10.0 ** (math.floor(first) - 0.2), 10.0 ** (max(math.ceil(last), math.floor(first) + 1) + 0.2)


def bars(frame: pd.DataFrame, two: str, *, log: bool = True) -> str:
    """What dots and bars are, by how many seeds there are."""
    seeds = frame.groupby("estimator", sort=False)["seed"].nunique()
    parts = []
    if (seeds >= FEWEST_FOR_AN_INTERVAL).any():
        parts.append(
            f"{'Geometric mean' if log else 'Mean'} over seeds with the 95 % t interval"
            f"{' on the log scale' if log else ''} ({_counts(seeds[seeds >= 3])})."
        )
    if (seeds == 2).any():
        parts.append(f"Where n = 2 seeds, {two}; n < 3: no interval.")
    if (seeds == 1).any():
        parts.append("Where n = 1 seed, the interval is the probe's own, over its R draws.")
    return " ".join(parts)


def _counts(seeds: pd.Series[int]) -> str:
    if len(set(seeds)) == 1:
        return f"n = {seeds.iloc[0]} seeds"
    return ", ".join(f"{label}: n = {count}" for label, count in seeds.items())


def _caption(frame: pd.DataFrame, quantity: Quantity, trajectory: str) -> str:
    draws = f"from R = {int(frame['replicates'].min())} independent draws"
    parts = [f"{quantity.meaning}, {draws}; {PLACES.get(trajectory, trajectory)}."]
    log = quantity.over_seeds is log_t_interval
    parts.append(bars(frame, "each has its thin line", log=log))
    if not log:
        parts.append("A band that reaches zero is cut at the axis.")
    panels = _panels(frame)
    if absent := [group for space, group in frames.groups(frame) if (space, group) not in panels]:
        parts.append(f"Not drawn, for it is never above zero: {', '.join(absent)}.")
    zero = frame[(frame["value"] <= 0) & ~frame["group"].isin(absent)]
    if len(zero):
        named = sorted({f"{row.estimator} ({row.group})" for row in zero.itertuples()})
        exactly = "Exactly zero" if (zero["value"] == 0).all() else "Zero or below"
        parts.append(
            f"{exactly} for some seed at some checkpoint: {', '.join(named)}; a point at or below zero is not "
            "on a log scale."
        )
    return " ".join(parts)


def _alt(frame: pd.DataFrame, title: str, quantity: Quantity) -> str:
    step = frame["step"].max()
    space, group = frames.groups(frame)[0]
    last = frame[(frame["step"] == step) & (frame["space"] == space) & (frame["group"] == group)]
    ends = {str(label): quantity.over_seeds(rows["value"]).value for label, rows in last.groupby("estimator")}
    listed = "; ".join(
        f"{label} {significant(value)}" for label, value in sorted(ends.items(), key=lambda item: item[1])
    )
    panels = ", ".join(f"{group} ({space})" for space, group in _panels(frame))
    what = quantity.axis.removeprefix("gradient ")
    return (
        f"Line charts on log scales. {title}; panels: {panels}. "
        f"{what.capitalize()} of the {group} gradient at step {step:,}, lowest first: {listed}."
    )
