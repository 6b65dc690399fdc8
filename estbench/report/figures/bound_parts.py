"""The parts of the ELBO along training: reconstruction, KL, and the latents that carry information."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator

from estbench.report.analysis.frames import done
from estbench.report.analysis.wording import fixed
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_above
from estbench.report.figures.style import belongs_to
from estbench.stats import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from estbench.report.figures.style import LineStyle

# The metrics of the curves, with their titles and the unit of the words.
PARTS = {
    "reconstruction": ("reconstruction", "nats"),
    "kl": ("KL(q || p)", "nats"),
    "active_units": ("active units", "latents"),
}


@register_figure(section="convergence", order=12)
def draw_bound_parts(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the mean of each part over seeds, on the test split of one problem."""
    frames = {metric: _select(source, metric) for metric in PARTS}
    frames = {metric: frame for metric, frame in frames.items() if len(frame)}
    if "kl" not in frames or (frames["kl"]["value"] == 0).all():  # a problem without a KL
        return
    styles = {label: style for label, style in source.styles.items() if label in set(frames["kl"]["estimator"])}
    board = source.analysis.leaderboard(source.problem)
    contenders = [entrant.estimator for entrant in board.contenders] if board else []
    legend = legend_above(styles)
    canvas = Canvas.grid(
        2.6 + legend.height,
        columns=len(frames),
        margins=Margins(left=0.09, right=0.015, top=0.28, bottom=0.5),
        gaps=(0.3, None),
        legend=legend,
    )
    drawn = []
    for axes, (metric, frame) in zip(canvas.places, frames.items(), strict=True):
        title, unit = PARTS[metric]
        for label, style in styles.items():
            means = _means(frame[frame["estimator"] == label])
            if means.empty:
                continue
            drawn.append(means.assign(part=metric, estimator=label))
            with belongs_to(axes, style):
                _draw_line(axes, means, style)
            words = [
                (step, value, f"{title}, step {step:,}: {fixed(value)} {unit}")
                for step, value in zip(means["step"], means["value"], strict=True)
            ]
            canvas.add_points(axes, style, words)
        axes.set(title=title, xlabel="training step (log scale)", xscale="log")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_minor_locator(NullLocator())
        _limit(axes, frame[frame["estimator"].isin(contenders)], metric)
    canvas.panels[0, 0].set_ylabel("nats per example")
    data = pd.concat(drawn, ignore_index=True)
    ends = data[data["step"] == data["step"].max()]
    spelt = "; ".join(f"{label} {_spell_out(rows)}" for label, rows in ends.groupby("estimator", sort=False))
    yield canvas.finish(
        name="bound_parts",
        title="The parts of the ELBO",
        chart="Line charts",
        alt=f"Parts of the test ELBO along training, from step {data['step'].min():,}. At the end: {spelt}.",
        caption="Means over finished runs on the test split: ELBO = reconstruction - KL, with the reconstruction "
        "E_q[log p(x|z)]. The axes are set by the estimators of which no run collapsed. A unit is active if the "
        "variance of its posterior mean over the images is above 0.01.",
        reading="How to read it: a KL near zero and no active units mean that the latents say nothing about the image "
        "(posterior collapse), however good the bound is.",
        data=data[["part", "estimator", "step", "value", "low", "high", "n"]],
    )


def _select(source: FigureSource, metric: str) -> pd.DataFrame:
    frame = done(source.analysis.curves(metric))
    return frame[(frame["problem"] == source.problem) & (frame["step"] > 0)]


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds at each step, with its interval."""
    rows = [{"step": step, **t_interval(of_step["value"])._asdict()} for step, of_step in frame.groupby("step")]
    return pd.DataFrame(rows)


def _spell_out(ends: pd.DataFrame) -> str:
    """Name each part with its value at the end."""
    return ", ".join(
        f"{PARTS[part][0]} {fixed(value)}" for part, value in zip(ends["part"], ends["value"], strict=True)
    )


def _draw_line(axes: Axes, means: pd.DataFrame, style: LineStyle) -> None:
    axes.plot(means["step"], means["value"], color=style.colour, linestyle=style.linestyle, linewidth=1.6)
    axes.fill_between(means["step"], means["low"], means["high"], color=style.colour, alpha=0.15, linewidth=0)
    axes.plot(means["step"].iloc[-1:], means["value"].iloc[-1:], style.marker, color=style.colour)


def _limit(axes: Axes, contenders: pd.DataFrame, metric: str) -> None:
    """Set limits by the contenders: a run that collapsed may leave the panel."""
    if contenders.empty:
        return
    low, high = float(contenders["value"].min()), float(contenders["value"].max())
    if metric == "reconstruction":  # all start far below
        ends = contenders.groupby("estimator")["value"].last()
        low = max(low, high - 4 * max(float(ends.max() - ends.median()), 10.0))
    else:
        low = min(low, 0.0)
    pad = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - pad, high + pad)
