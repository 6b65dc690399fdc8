"""The law of total variance in words: how much of a minibatch gradient's noise a better estimator could remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from estbench.report.analysis import frames
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, t_interval

if TYPE_CHECKING:
    import pandas as pd

    from estbench.store import Results


def shares(frame: pd.DataFrame) -> Interval:
    r"""The estimator's share of the noise, over seeds: V / (V + D).

    V is the variance of the estimator at one fixed minibatch, D what drawing the minibatch adds. D is an unbiased
    estimate that may fall below zero, where it counts as none.
    """
    wide = frame.pivot_table(index="seed", columns="statistic", values="value")
    if not {"variance", "data_variance"} <= set(wide.columns):
        return t_interval([])
    wide = wide.dropna(subset=["variance", "data_variance"])
    drawn = wide["data_variance"].clip(lower=0)
    total = wide["variance"] + drawn
    return t_interval((wide["variance"] / total)[total > 0])


class Shares(NamedTuple):
    """A sentence that begins, and how it ends for each estimator."""

    beginning: str
    endings: list[str]


def sentences(results: Results) -> list[Shares]:
    """One per problem and group that has both parts, at the last checkpoint that all finished cells share."""
    frame = frames.gradients(results)
    several = len(frames.problems(results)) > 1
    told = []
    for problem in frames.problems(results):
        here = frame[frame["problem"] == problem]
        step = frames.last_common_step(here)
        here = here[here["step"] == step]
        for space, group in frames.groups(here):
            of_group = here[(here["space"] == space) & (here["group"] == group)]
            found = {label: shares(of_group[of_group["estimator"] == label]) for label in frames.estimators(results)}
            endings = [f"{label}: {_words(share)}" for label, share in found.items() if share.n]
            if endings:
                where = f" on {problem}" if several else ""
                told.append(
                    Shares(
                        f"Of the noise of the {group} gradient ({space}) at step {step:,}{where}, the estimator itself "
                        "is responsible for",
                        endings,
                    )
                )
    return told


def _words(share: Interval) -> str:
    value, low, high = map(percent, share[:3])
    if share.n < FEWEST_FOR_AN_INTERVAL:
        return f"{value} (n = {share.n} < 3: no interval)"
    return f"{value} ({'both ends of the interval too' if low == high == value else f'{low} to {high}'}, n = {share.n})"


def percent(value: float) -> str:
    """A share in percent that is never rounded to all or nothing."""
    inside = min(max(value, 0.0), 1.0)
    if 0 < inside < 0.001:
        return "under 0.1 %"
    if 0.999 < inside < 1:
        return "over 99.9 %"
    return f"{100 * inside:.3g} %"
