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
from estbench.report.analysis.wording import format_list
from estbench.report.figures.limits import with_decades
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, Point, legend_above
from estbench.report.figures.style import INK, belongs_to, figure_width
from estbench.report.tables.base import interval_note, significant
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval, t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle


# The word for the weights at which gradients were measured.
TABS = {"shared": "same weights", "own": "own weights"}
# Curves whose values differ by less, relatively, are drawn once.
SAME = 1e-3
# Inches of a figure in which two panels with their titles have room beside each other.
LEAST_FOR_TWO = 6.5


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
        "How to read it: higher is better; at 1 the gradient is as large as its noise. Far below 1, a single "
        "step points in a nearly random direction, and only the average of many steps makes progress.",
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
    for statistic, quantity in QUANTITIES.items():
        for trajectory in reversed(TRAJECTORIES):
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
    columns = min(2 if figure_width() > LEAST_FOR_TWO else 1, len(panels))
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
    alike: list[str] = []
    for axes, (space, group) in zip(canvas.places, panels, strict=False):
        of_panel = frame[(frame["space"] == space) & (frame["group"] == group)]
        lines = [line for label in styles for line in _lines(of_panel[of_panel["estimator"] == label], quantity)]
        same = _find_same(lines)
        alike += [f"{group}: {format_list(labels)}" for labels in same.values() if len(labels) > 1]
        _draw_panel(axes, of_panel, lines, same, styles, quantity)
        drawn += [line.assign(space=space, group=group) for line in lines]
        for line in lines:
            canvas.add_points(axes, styles[line["estimator"].iloc[0]], _points(line, group))
        axes.set(
            title=f"{group} ({'weights' if space == 'weights' else 'variational parameters'})",
            xlabel="",
            ylabel="",
        )
    for axes in canvas.places[len(panels) :]:
        axes.set_axis_off()
    columns = canvas.panels.shape[1]  # fewer in a narrow figure
    for at in range(columns):
        lowest = max(index for index in range(len(panels)) if index % columns == at)
        canvas.places[lowest].set_xlabel("training step (log scale)")
    for axes in canvas.panels[:, 0]:
        axes.set_ylabel(quantity.axis)

    tab = TABS[trajectory]
    title = f"{quantity.title}, {tab}"
    equal = f" Dark curve, the same for several estimators: {'; '.join(alike)}." if alike else ""
    figure = canvas.finish(
        name=quantity.name if trajectory == TRAJECTORY else f"{quantity.name}_{trajectory}",
        title=title,
        chart="Line charts on log scales",
        alt=_alt(frame, title, quantity) + equal,
        caption=_caption(frame, quantity, trajectory) + equal,
        reading=quantity.reading,
        data=pd.concat(drawn, ignore_index=True),
    )
    return figure.in_tab(tab, quantity.title)


def _find_same(lines: list[pd.DataFrame]) -> dict[int, list[str]]:
    """Return, for each line that is drawn, the labels of all estimators whose values are the same."""
    labels = [str(line["estimator"].iloc[0]) for line in lines]
    values = [line[["step", "value", "low", "high"]].to_numpy(dtype=float) for line in lines]

    def are_same(one: int, other: int) -> bool:
        if labels[one] == labels[other] or values[one].shape != values[other].shape:
            return False
        return np.allclose(values[one], values[other], rtol=SAME, atol=0, equal_nan=True)

    same: dict[int, list[str]] = {}
    for at, label in enumerate(labels):
        same.setdefault(next((first for first in same if are_same(first, at)), at), []).append(label)
    return same


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
    axes: Axes,
    frame: pd.DataFrame,
    lines: list[pd.DataFrame],
    same: dict[int, list[str]],
    styles: dict[str, LineStyle],
    quantity: Quantity,
) -> None:
    for at, labels in same.items():
        line, style = lines[at], styles[labels[0]]
        above = line[line["value"] > 0]
        if above.empty:
            continue
        if len(labels) > 1:  # it belongs to no single estimator: the page never hides it
            _draw_line(axes, above, style, INK)
        else:
            with belongs_to(axes, style):
                _draw_line(axes, above, style, style.colour)
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


def _draw_line(axes: Axes, line: pd.DataFrame, style: LineStyle, colour: str) -> None:
    """Draw values above zero, with a band where it is on a log scale; a hollow marker says that it reaches zero."""
    width = 1.8 if line["seed"].iloc[0] == "mean" else 1.1
    axes.plot(line["step"], line["value"], color=colour, linestyle=style.linestyle, linewidth=width)
    reaches_zero = line["low"] <= 0
    for rows, face in ((line[~reaches_zero], colour), (line[reaches_zero], "white")):
        axes.plot(rows["step"], rows["value"], style.marker, color=colour, markerfacecolor=face)
    axes.fill_between(
        line["step"], line["low"], line["high"], where=~reaches_zero, color=colour, alpha=0.18, linewidth=0
    )


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
        parts.append(f"Where n = 2 seeds, {two}; fewer than 3: no interval.")
    if (seeds == 1).any():
        parts.append("Where n = 1 seed, the interval is the probe's own, over its R draws.")
    return " ".join(parts)


def _counts(seeds: pd.Series[int]) -> str:
    usual = int(seeds.max())
    others = [f"{label}: n = {count}" for label, count in seeds.items() if count != usual]
    return f"n = {usual} seeds" + (f"; {', '.join(others)}" if others else "")


def _caption(frame: pd.DataFrame, quantity: Quantity, trajectory: str) -> str:
    draws = f"from R = {int(frame['replicates'].min())} independent draws"
    where = describe_trajectory(trajectory, "checkpoints")
    parts = [f"{quantity.meaning}, {draws}; {where}."]
    log = quantity.over_seeds is log_t_interval
    parts.append(describe_bars(frame, "each has its thin line", log=log))
    if not log:
        parts.append("A hollow marker: the interval reaches zero, which is not on a log scale.")
    panels = _panels(frame)
    if absent := [group for space, group in groups(frame) if (space, group) not in panels]:
        parts.append(f"Not drawn, because it is never above zero: {', '.join(absent)}.")
    zero = frame[(frame["value"] <= 0) & ~frame["group"].isin(absent)]
    if len(zero):
        labels = sorted({f"{row.estimator} ({row.group})" for row in zero.itertuples()})
        parts.append(f"Zeros cannot be drawn on a log axis; left out for a seed or more: {', '.join(labels)}.")
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
