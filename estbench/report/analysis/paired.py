"""Finished runs side by side: what a run was worth at a cost, when it reached a bound, and pairs over common seeds.

A curve is known at its evaluations alone. Between two of them the estimate is on the straight line, and nothing more
is claimed than that the truth lies between the two: every such number is a ``Span``, and the intervals made from spans
take their whole width in (``stats.spanned_claim``). More frequent evaluations make them narrower.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from estbench.report.analysis import frames
from estbench.stats import Claim, Interval, spanned_claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from estbench.store import Results

# What a cost may be counted in: columns of the curves, and their names in words.
CURRENCIES = {"step": "steps", "evaluations": "evaluations", "seconds": "training seconds"}
# At or below this, after Holm's correction, a difference is shown.
LEVEL = 0.05


class Run(NamedTuple):
    """The test ELBO of one finished cell, at its evaluations."""

    folder: str
    cost: dict[str, NDArray[np.float64]]  # by currency, ascending
    value: NDArray[np.float64]


class Span(NamedTuple):
    """An estimate, and the two ends that the truth lies between."""

    value: float
    low: float
    high: float


MISS = Span(math.inf, math.inf, math.inf)
# Runs by estimator (in the order of the plan) and seed.
Runs = dict[str, dict[int, Run]]


@frames.once
def finished_runs(results: Results) -> dict[str, Runs]:
    """The finished runs of every problem; a run that ended in a NaN has no result, and is none."""
    frame = frames.done(frames.curves(results))
    frame = frame[frame["folder"].isin(frames.final_values(results)["folder"])]
    found: dict[str, Runs] = {
        problem: {label: {} for label in frames.estimators(results)} for problem in frames.problems(results)
    }
    for _, rows in frame.groupby(frames.RUN, sort=False):
        problem, estimator, seed = rows[frames.RUN].iloc[0]
        cost = {currency: rows[currency].to_numpy(dtype=float) for currency in CURRENCIES}
        run = Run(str(rows["folder"].iloc[0]), cost, rows["value"].to_numpy(dtype=float))
        found[problem][estimator][int(seed)] = run
    return {problem: {label: runs for label, runs in each.items() if runs} for problem, each in found.items()}


def comparable(results: Results, runs: Runs) -> list[str]:
    """The currencies that these runs may be compared in: seconds only within one place."""
    folders = [run.folder for seeds in runs.values() for run in seeds.values()]
    return [each for each in CURRENCIES if each != "seconds" or len(frames.places(results, folders)) == 1]


def crossing(run: Run, currency: str, target: float) -> Span:
    """The cost at which a run first reached ``target``; between it and the evaluation before; a miss is infinite."""
    reached = np.flatnonzero(run.value >= target)
    if not len(reached):
        return MISS
    at, cost = int(reached[0]), run.cost[currency]
    if at == 0:
        return Span(*[float(cost[0])] * 3)
    before, after = run.value[at - 1], run.value[at]
    share = (target - before) / (after - before)
    return Span(float(cost[at - 1] + share * (cost[at] - cost[at - 1])), float(cost[at - 1]), float(cost[at]))


def worth(run: Run, currency: str, budget: float) -> Span:
    """The test ELBO of a run at a cost that it has come to."""
    cost = run.cost[currency]
    at = min(int(np.searchsorted(cost, budget)), len(cost) - 1)
    if at == 0 or cost[at] <= budget:
        return Span(*[float(run.value[at])] * 3)
    low, high = sorted((float(run.value[at - 1]), float(run.value[at])))
    return Span(float(np.interp(budget, cost, run.value)), low, high)


def difference(ours: Mapping[int, Span], theirs: Mapping[int, Span]) -> Claim:
    """Ours less theirs, paired over the seeds that both have."""
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    return spanned_claim(
        [first.low - second.high for first, second in pairs],
        [first.value - second.value for first, second in pairs],
        [first.high - second.low for first, second in pairs],
    )


def ratio(ours: Mapping[int, Span], theirs: Mapping[int, Span]) -> Claim:
    """Geometric mean of ours over theirs, paired over the seeds that both have; nothing where there is no logarithm.

    A miss has none; nor has a span that begins at zero, which leaves open how soon the bound was reached.
    """
    shared = [seed for seed in ours if seed in theirs]
    ends = [end for seed in shared for end in (*ours[seed], *theirs[seed])]
    if not all(0 < end < math.inf for end in ends):
        return Claim(Interval(math.nan, math.nan, math.nan, len(shared)), math.nan)
    logs = difference(*({seed: Span(*map(math.log, each[seed])) for seed in shared} for each in (ours, theirs)))
    value, low, high, n = logs.interval
    return Claim(Interval(math.exp(value), math.exp(low), math.exp(high), n), logs.p)
