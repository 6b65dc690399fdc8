"""The share of a gradient's noise that a better estimator could remove: the law of total variance as stacked bars."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from estbench.report.analysis.frames import TRAJECTORIES, describe_trajectory, groups, last_common_step
from estbench.report.analysis.noise_shares import shares
from estbench.report.analysis.wording import format_percent
from estbench.report.figures.gradients import TABS
from estbench.report.figures.registry import FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, label_margin, mark_row_labels, show_rows
from estbench.report.figures.style import FONT, INK, SOFT, belongs_to, wrap_label
from estbench.stats import Interval

TITLE = "Would a better estimator help?"


@register_figure(section="variance", order=5)
def draw_noise_shares(source: FigureSource) -> Iterator[RenderedFigure]:
    """Draw the estimator's share of the noise of each group of weights on one problem."""
    for trajectory in reversed(TRAJECTORIES):
        frame = source.analysis.gradients(trajectory)
        frame = frame[(frame["problem"] == source.problem) & (frame["space"] == "weights")]
        step = last_common_step(frame)
        if step is not None:
            yield from _draw_at(frame[frame["step"] == step], step, trajectory, source)


def _draw_at(frame: pd.DataFrame, step: int, trajectory: str, source: FigureSource) -> Iterator[RenderedFigure]:
    found: dict[str, dict[str, Interval]] = {}
    for _, group in groups(frame):
        of_group = frame[frame["group"] == group]
        by_label = {label: shares(of_group[of_group["estimator"] == label]) for label in source.styles}
        by_label = {label: share for label, share in by_label.items() if share.n}
        if by_label:
            found[group] = by_label
    if not found:
        return
    labels = [label for label in source.styles if any(label in by_label for by_label in found.values())]
    names = [wrap_label(label) for label in labels]
    row = 0.28 if all("\n" not in name for name in names) else 0.36
    canvas = Canvas.grid(
        row * len(labels) + 0.85,
        columns=len(found),
        margins=Margins(label_margin(names), 0.04, top=0.3, bottom=0.5),
        gaps=(0.14, None),
        share_y=True,
    )
    for axes, (group, by_label) in zip(canvas.places, found.items(), strict=True):
        for at, label in enumerate(labels):
            if label not in by_label:
                continue
            share, style = by_label[label], source.styles[label]
            with belongs_to(axes, style):
                axes.barh(at, share.value, height=0.62, color=style.colour)
                axes.barh(at, 1 - share.value, left=share.value, height=0.62, color="#dddddd")
                if not math.isnan(share.low) and share.high - share.low > 0.005:
                    axes.plot([max(0.0, share.low), min(1.0, share.high)], [at, at], color=INK, linewidth=1.2)
                end = share.high if math.isfinite(share.high) else share.value
                inside = end > 0.7
                low = share.low if math.isfinite(share.low) else share.value
                axes.text(
                    min(share.value, low) - 0.015 if inside else end + 0.02,
                    at,
                    format_percent(share.value),
                    ha="right" if inside else "left",
                    va="center",
                    fontsize=FONT - 1,
                    color="white" if inside and low > 0.25 else INK,
                )
            canvas.add_points(axes, style, [(min(share.value, 1.0), at, f"{group}: {_describe(share)}")])
        axes.set(title=group, xlim=(0, 1), xlabel="share of the noise")
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.axvline(0.5, color=SOFT, linewidth=0.5, zorder=0)
        show_rows(axes)
    first = canvas.places[0]
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.5, -0.5)
    mark_row_labels(first, [source.styles[label] for label in labels])
    rows = [
        {"group": group, "estimator": label, **share._asdict()}
        for group, by_label in found.items()
        for label, share in by_label.items()
    ]
    spelt = "; ".join(f"{row['group']}, {row['estimator']} {format_percent(row['value'])}" for row in rows)
    figure = canvas.finish(
        name="noise_shares" if trajectory == "own" else f"noise_shares_{trajectory}",
        title=f"{TITLE}, {TABS[trajectory]}",
        chart="Stacked bars",
        alt=f"The estimator's share of the noise of a minibatch gradient at step {step:,}: {spelt}.",
        caption=f"Coloured: the part of a minibatch gradient's variance that comes from the estimator's own draws; "
        f"grey: the part that comes from drawing the minibatch. At step {step:,}; {describe_trajectory(trajectory)}. "
        f"Thin line: 95 % t interval over seeds. A negative estimate of the minibatch's variance is set to zero.",
        reading="How to read it: a better estimator can only remove the coloured part. Where little of the bar is "
        "coloured, it can hardly help, and a larger minibatch would.",
        data=pd.DataFrame(rows),
    )
    yield figure.in_tab(TABS[trajectory], TITLE)


def _describe(share: Interval) -> str:
    value, low, high = map(format_percent, share[:3])
    if math.isnan(share.low) or low == high:
        return f"{value} of the noise"
    return f"{value} of the noise [{low}, {high}], n = {share.n}"
