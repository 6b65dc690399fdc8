"""Along training: the gradient's variance, its signal-to-noise ratio, and its bias where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import TRAJECTORIES, TRAJECTORY, describe_trajectory, groups
from estbench.report.figures.limits import with_decades
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, Point, legend_above
from estbench.report.figures.style import belongs_to
from estbench.report.tables.base import interval_note, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval, t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle


class Quantity(NamedTuple):
    """A statistic of the gradient, in the words of its figure."""

    name: str  # of the figure
    title: str
    axis: str  # the label of the y axis
    over_seeds: Callable[[Any], Interval]  # the interval over seeds
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


@register_figure(section="variance")
def draw_statistics(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw each statistic of the gradient on one problem: first at shared weights, then along each own training."""
    for trajectory in reversed(TRAJECTORIES):
        for statistic, quantity in QUANTITIES.items():
            frame = select_statistic(source.analysis, source.problem, statistic, trajectory)
            if len(frame):
                yield draw_statistic(frame, quantity, trajectory, source.styles)


def select_statistic(
    analysis: Analysis, problem: str, statistic: str = "variance", trajectory: str = TRAJECTORY
) -> pd.DataFrame:
    """Return the finite values of one statistic on one problem."""
    frame = analysis.gradients(trajectory)
    return frame[(frame["problem"] == problem) & (frame["statistic"] == statistic)]


def draw_statistic(
    frame: pd.DataFrame, quantity: Quantity, trajectory: str, styles: dict[str, LineStyle]
) -> RenderedFigure:
    """Draw one statistic against steps, one panel per space and group.

    Parameters
    ----------
    frame
        Values of the statistic and the ends of their intervals: a row for each step, space, group, estimator and seed.
    """
    panels = _panels(frame)
    styles = {label: style for label, style in styles.items() if label in set(frame["estimator"])}
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = legend_above(styles)
    canvas = Canvas.grid(
        2.3 * rows + 0.35 + legend.height,
        rows,
        columns,
        margins=Margins(left=0.095, right=0.015, top=0.25, bottom=0.5),
        gaps=(0.24, 0.42),
        legend=legend,
    )
    drawn: list[pd.DataFrame] = []
    for axes, (space, group) in zip(canvas.panels.flat, panels, strict=False):
        of_panel = frame[(frame["space"] == space) & (frame["group"] == group)]
        lines = [line for label in styles for line in _lines(of_panel[of_panel["estimator"] == label], quantity)]
        _draw_panel(axes, of_panel, lines, styles, quantity)
        drawn += [line.assign(space=space, group=group) for line in lines]
        for line in lines:
            canvas.add_points(axes, styles[line["estimator"].iloc[0]], _points(line, group))
        axes.set(
            title=f"{group} ({'weights' if space == 'weights' else 'variational parameters'})",
            xlabel="",
            ylabel="",
        )
    for axes in list(canvas.panels.flat)[len(panels) :]:
        axes.set_axis_off()
    for at in range(columns):
        lowest = max(index for index in range(len(panels)) if index % columns == at)
        canvas.panels.flat[lowest].set_xlabel("training step (log scale)")
    for axes in canvas.panels[:, 0]:
        axes.set_ylabel(quantity.axis)

    shared = trajectory != TRAJECTORY
    title = f"{quantity.title}{f' ({trajectory} trajectory)' if shared else ''}"
    return canvas.finish(
        name=f"{quantity.name}_{trajectory}" if shared else quantity.name,
        title=title,
        chart="Line charts on log scales",
        alt=_alt(frame, title, quantity),
        caption=_caption(frame, quantity, trajectory),
        reading=quantity.reading,
        data=pd.concat(drawn, ignore_index=True),
    )


def _panels(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the spaces and groups that have a value above zero, for a log scale; all of them if none has."""
    return groups(frame[frame["value"] > 0]) or groups(frame)


def _lines(rows: pd.DataFrame, quantity: Quantity) -> list[pd.DataFrame]:
    """Return what is drawn of one estimator in one panel: its mean, or each seed if they are too few for a mean."""
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


def _draw_panel(
    axes: Axes, frame: pd.DataFrame, lines: list[pd.DataFrame], styles: dict[str, LineStyle], quantity: Quantity
) -> None:
    for line in lines:
        style, mean = styles[line["estimator"].iloc[0]], line["seed"].iloc[0] == "mean"
        above = line[line["value"] > 0]
        if above.empty:
            continue
        with belongs_to(axes, style):
            # seaborn's lineplot would sort and group what is one line already, at 10 ms each.
            axes.plot(
                above["step"],
                above["value"],
                color=style.colour,
                linestyle=style.linestyle,
                marker=style.marker,
                markeredgewidth=0,
                linewidth=1.8 if mean else 1.1,
            )
            # A band that reaches zero is cut at the axis: zero is not on a log scale.
            low = above["low"].where(above["low"].isna() | (above["low"] > 0), above["value"] * 1e-12)
            axes.fill_between(above["step"], low, above["high"], color=style.colour, alpha=0.18, linewidth=0)
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


def _points(line: pd.DataFrame, group: str) -> list[Point]:
    """Return the points of one line that are on the log scale, in words."""
    points = []
    for row in line[line["value"] > 0].to_dict("records"):
        over = Interval(row["value"], row["low"], row["high"], int(row["n"]))
        note = interval_note(over, significant(over.low), significant(over.high))
        seed = "" if row["seed"] == "mean" else f", seed {row['seed']}"
        words = f"{group}, step {row['step']:,}{seed}: {significant(over.value)}, {note}"
        points.append((row["step"], row["value"], words))
    return points


def describe_bars(frame: pd.DataFrame, two: str, *, log: bool = True) -> str:
    """Describe the dots and bars, which depend on the number of seeds; ``two`` describes estimators with two seeds."""
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
    where = describe_trajectory(trajectory, "checkpoints")
    parts = [f"{quantity.meaning}, {draws}; {where}."]
    log = quantity.over_seeds is log_t_interval
    parts.append(describe_bars(frame, "each has its thin line", log=log))
    if not log:
        parts.append("A band that reaches zero is cut at the axis.")
    panels = _panels(frame)
    if absent := [group for space, group in groups(frame) if (space, group) not in panels]:
        parts.append(f"Not drawn, for it is never above zero: {', '.join(absent)}.")
    zero = frame[(frame["value"] <= 0) & ~frame["group"].isin(absent)]
    if len(zero):
        labels = sorted({f"{row.estimator} ({row.group})" for row in zero.itertuples()})
        exactly = "Exactly zero" if (zero["value"] == 0).all() else "Zero or below"
        parts.append(
            f"{exactly} for some seed at some checkpoint: {', '.join(labels)}; a point at or below zero is not "
            "on a log scale."
        )
    return " ".join(parts)


def _alt(frame: pd.DataFrame, title: str, quantity: Quantity) -> str:
    step = frame["step"].max()
    space, group = groups(frame)[0]
    last = frame[(frame["step"] == step) & (frame["space"] == space) & (frame["group"] == group)]
    ends = {str(label): quantity.over_seeds(rows["value"]).value for label, rows in last.groupby("estimator")}
    listed = "; ".join(
        f"{label} {significant(value)}" for label, value in sorted(ends.items(), key=lambda item: item[1])
    )
    panels = ", ".join(f"{group} ({space})" for space, group in _panels(frame))
    what = quantity.axis.removeprefix("gradient ")
    return (
        f"{title}; panels: {panels}. "
        f"{what.capitalize()} of the {group} gradient at step {step:,}, lowest first: {listed}."
    )
