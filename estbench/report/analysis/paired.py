"""Finished runs side by side: their bound at a cost, their cost at a bound, and pairs over common seeds.

A curve is known only at its evaluations. Between two of them the estimate is on the straight line, and the only claim
is that the truth lies between the two. So every such number is a ``Span``, and an interval that is made from spans
holds their whole width (``stats.spanned_claim``). More frequent evaluations make spans narrower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from estbench.report.analysis.frames import Frames, Pair, done, pair_of
from estbench.stats import Claim, Interval, paired_ratio, spanned_claim

# The units of a cost: columns of the curves, and their names in words.
CURRENCIES = {"step": "steps", "evaluations": "evaluations", "seconds": "training seconds"}
# A difference is shown if its p-value is at most this after Holm's correction.
LEVEL = 0.05
ABSENT = Interval(math.nan, math.nan, math.nan, 0)


def relative_time(rounds: pd.DataFrame, to: str = "reference_seconds_per_step") -> Interval:
    """Return the ratio of seconds per step to those of another column in the same rounds; n is 0 if it has none."""
    paired = rounds.dropna(subset=to)
    return paired_ratio(paired["seconds_per_step"], paired[to])


class Run(NamedTuple):
    """The test bound of one finished cell, at its evaluations: that by which its problem is judged."""

    folder: str
    cost: dict[str, NDArray[np.float64]]  # by currency, ascending
    value: NDArray[np.float64]  # in nats per example

    @property
    def collapsed(self) -> bool:
        """Whether it ended below its own bound before training."""
        return bool(self.cost["step"][0] == 0 and self.value[-1] < self.value[0])


class Span(NamedTuple):
    """An estimate, and the two ends that the truth lies between."""

    value: float
    low: float
    high: float


MISS = Span(math.inf, math.inf, math.inf)
# Runs by estimator (in the order of the plan) and seed.
Runs = dict[str, dict[Pair, Run]]


def find_runs(frames: Frames) -> dict[str, Runs]:
    """Return the finished runs of every problem; a run that ended in a NaN has no result and is left out."""
    runs: dict[str, Runs] = {problem: {label: {} for label in frames.estimators} for problem in frames.problems}
    for problem in frames.problems:
        frame, finals = frames.curves(frames.metric(problem)), frames.final_values(frames.metric(problem))
        frame = done(frame[(frame["problem"] == problem) & frame["folder"].isin(finals["folder"])])
        for _, rows in frame.groupby(["estimator", "pair"], sort=False):
            cost = {currency: rows[currency].to_numpy(dtype=float) for currency in CURRENCIES}
            run = Run(str(rows["folder"].iloc[0]), cost, rows["value"].to_numpy(dtype=float))
            runs[problem][str(rows["estimator"].iloc[0])][pair_of(rows["pair"].iloc[0])] = run
    return {problem: {label: seeds for label, seeds in each.items() if seeds} for problem, each in runs.items()}


def comparable(frames: Frames, runs: Runs) -> list[str]:
    """Return the currencies that these runs may be compared in: seconds only if all were timed in one place."""
    folders = [run.folder for seeds in runs.values() for run in seeds.values()]
    return [each for each in CURRENCIES if each != "seconds" or len(frames.places(folders)) == 1]


def find_crossing(run: Run, currency: str, target: float) -> Span:
    """Return the cost at which a run first reached ``target``.

    It lies between the evaluation that reached the target and the one before. A miss is infinite.
    """
    reached = np.flatnonzero(run.value >= target)
    if not len(reached):
        return MISS
    at, cost = int(reached[0]), run.cost[currency]
    if at == 0:
        return Span(*[float(cost[0])] * 3)
    before, after = run.value[at - 1], run.value[at]
    share = (target - before) / (after - before)
    return Span(float(cost[at - 1] + share * (cost[at] - cost[at - 1])), float(cost[at - 1]), float(cost[at]))


def find_value(run: Run, currency: str, budget: float) -> Span:
    """Return the test bound of a run at a cost that it has come to, in nats per example."""
    cost = run.cost[currency]
    at = min(int(np.searchsorted(cost, budget)), len(cost) - 1)
    if at == 0 or cost[at] <= budget:
        return Span(*[float(run.value[at])] * 3)
    low, high = sorted((float(run.value[at - 1]), float(run.value[at])))
    return Span(float(np.interp(budget, cost, run.value)), low, high)


def find_difference(ours: Mapping[Pair, Span], theirs: Mapping[Pair, Span]) -> Claim:
    """Return ours less theirs, paired over the seeds that both have."""
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    return spanned_claim(
        [first.low - second.high for first, second in pairs],
        [first.value - second.value for first, second in pairs],
        [first.high - second.low for first, second in pairs],
    )


def find_ratio(ours: Mapping[Pair, Span], theirs: Mapping[Pair, Span]) -> Claim:
    """Return the geometric mean of ours over theirs, paired over the seeds that both have; NaN without a logarithm.

    A miss has no logarithm. Nor has a span that begins at zero, which does not tell how soon the bound was reached.
    """
    shared = [seed for seed in ours if seed in theirs]
    ends = [end for seed in shared for end in (*ours[seed], *theirs[seed])]
    if not all(0 < end < math.inf for end in ends):
        return Claim(ABSENT._replace(n=len(shared)), math.nan)
    logs = find_difference(*({seed: Span(*map(math.log, each[seed])) for seed in shared} for each in (ours, theirs)))
    value, low, high, n = logs.interval
    return Claim(Interval(math.exp(value), math.exp(low), math.exp(high), n), logs.p)


def pair_values(ours: pd.Series[float], theirs: pd.Series[float]) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the values of both series at the entries of the index (seeds, rounds) that they share."""
    shared = ours.index.intersection(theirs.index)
    return ours.loc[shared], theirs.loc[shared]
