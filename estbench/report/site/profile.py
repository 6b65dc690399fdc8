"""Performance profiles over all problems of a site: how often an estimator is within x nats of the best.

rho_s(x) = share of the problems p, of those in which s took part, with max over s' of m_(p,s') - m_(p,s) <= x, where m
is the mean test bound when all have spent the same steps or evaluations. It is the profile of Dolan and More
(Mathematical Programming 91, 2002) with a difference in place of the ratio, because a bound is a logarithm already.
An estimator without a rank (a run collapsed, or none has a bound) is within no distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from estbench.report.figures.rendered import RenderedFigure
from estbench.report.figures.scaffold import Canvas, Margins, legend_below
from estbench.report.figures.style import line_styles, matplotlib_style
from estbench.report.site.entries import Entry
from estbench.report.site.equal import CURRENCIES
from estbench.visible import visible

# More lines cannot be told apart; and one problem makes no profile.
MOST_LINES, FEWEST_PROBLEMS = 12, 2
NEAREST = 0.05  # nats: the left edge; the best themselves lie there
TITLES = {"step": "equal steps", "evaluations": "equal evaluations"}
COLUMNS = ("estimator", "cost", "nats_behind", "share", "problems")


class Profile(NamedTuple):
    """The profiles by currency and estimator: how far it is behind the best in each problem, in ascending order."""

    gaps: dict[str, dict[str, list[float]]]
    left_out: int  # estimators beyond the number of lines

    @property
    def estimators(self) -> list[str]:
        """The labels, those in the most problems first."""
        return list(dict.fromkeys(label for gaps in self.gaps.values() for label in gaps))


def find_profile(entries: Sequence[Entry]) -> Profile:
    """Return the profiles over the problems in which at least two estimators have a rank."""
    gaps: dict[str, dict[str, list[float]]] = {currency: {} for currency in CURRENCIES}
    for entry in entries:
        for board in entry.boards:
            for currency in CURRENCIES:
                ranks = entry.contents.equal.get(board.problem, {}).get(currency, {})
                if len(ranks) > 1:
                    for label in {entrant.estimator for entrant in board.entrants} | set(ranks):
                        gap = ranks[label].gap if label in ranks else math.inf
                        gaps[currency].setdefault(label, []).append(gap)
    counts = {label: len(values) for label, values in gaps[CURRENCIES[0]].items()}
    enough = sorted(
        (label for label, count in counts.items() if count >= FEWEST_PROBLEMS),
        key=lambda label: (-counts[label], float(np.median(gaps[CURRENCIES[0]][label])), label),
    )
    shown = enough[:MOST_LINES]
    return Profile(
        {currency: {label: sorted(of[label]) for label in shown if label in of} for currency, of in gaps.items()},
        len(counts) - len(shown),
    )


def draw_profile(profile: Profile) -> RenderedFigure | None:
    """Draw a panel for each currency; None if no estimator is in two problems."""
    panels = {currency: gaps for currency, gaps in profile.gaps.items() if gaps}
    if not panels:
        return None
    with matplotlib_style():
        styles = line_styles(profile.estimators)
        legend = legend_below({visible(label): style for label, style in styles.items()})
        height = 2.9 + legend.height
        canvas = Canvas.grid(
            height,
            columns=len(panels),
            margins=Margins(left=0.09, right=0.02, top=0.3, bottom=0.55),
            gaps=(0.08, None),
            share_y=True,
            legend=legend,
        )
        finite = [gap for gaps in panels.values() for values in gaps.values() for gap in values if math.isfinite(gap)]
        right = 1.3 * max([*finite, 1.0])
        rows = []
        for axes, (currency, gaps) in zip(canvas.places, panels.items(), strict=True):
            for at, (label, values) in enumerate(gaps.items()):
                reached = np.array([gap for gap in values if math.isfinite(gap)])
                shares = np.arange(1, len(reached) + 1) / len(values)
                rows += [(label, currency, gap, y, len(values)) for gap, y in zip(reached, shares, strict=True)]
                x = np.concatenate([[NEAREST / 2], np.maximum(reached, NEAREST), [right]])
                nudge = 0.004 * (at - (len(gaps) - 1) / 2)
                y = np.concatenate([[0.0], shares, [len(reached) / len(values)]]) + nudge
                style = styles[label]
                axes.step(x, y, where="post", color=style.colour, linestyle=style.linestyle)
                axes.plot(x[1:-1], y[1:-1], style.marker, color=style.colour, markersize=3.5)
            axes.set(xscale="log", xlim=(NEAREST * 0.9, right), ylim=(-0.03, 1.05), title=TITLES[currency])
            axes.set_xlabel("nats behind the best")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        canvas.panels[0, 0].set_ylabel("share of problems")
        title = "Within x nats of the best"
        more = profile.left_out
        rest = f" {more} further estimators, most of them in fewer problems, are not drawn." if more else ""
        return canvas.finish(
            name="profile",
            title=title,
            chart="Step chart",
            alt=f"{title}: {len(profile.estimators)} estimators; the table below has the numbers.",
            caption=f"Share of the problems in which the mean test bound of an estimator is at most so many nats below "
            "the best mean of the same problem and experiment, when all have spent the same. The left edge is "
            f"{NEAREST} nats. A problem counts for an estimator if it took part in it, so lines may be of different "
            "problems: among weak rivals it is easy to be the best. Without a rank (a run collapsed, or none has a "
            "bound) it is never within. A profile has no interval; overlapping lines are shifted slightly."
            f"{rest}",
            reading="How to read it: at the left edge, how often an estimator was the best; further right, how often "
            "it was not much worse. Higher is better everywhere.",
            data=pd.DataFrame(rows, columns=list(COLUMNS)),
        )


class ProfileRow(NamedTuple):
    """The numbers of one estimator: its problems, and the shares of them within some distances, by currency."""

    estimator: str
    problems: int
    shares: dict[str, list[str]]


# Nats, of the table below the figure.
DISTANCES = (0.1, 1.0, 5.0)


def list_shares(profile: Profile) -> list[ProfileRow]:
    """Return a row for each estimator of the profiles."""
    rows = []
    for label in profile.estimators:
        values = {currency: gaps.get(label, []) for currency, gaps in profile.gaps.items()}
        shares = {
            currency: [f"{100 * sum(gap <= distance for gap in of) / len(of):.0f} %" for distance in DISTANCES]
            for currency, of in values.items()
            if of
        }
        rows.append(ProfileRow(visible(label), max(map(len, values.values())), shares))
    return rows
