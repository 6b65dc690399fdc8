"""Time to target: the cost of reaching a test ELBO, in steps, evaluations and training seconds.

Unless a target is given, the targets are 1, 5 and 20 nats below the best mean final bound of a contender. A target that
some run had met before training compares nothing and is left out.

A cell that diverged is a miss, whatever it had reached before. A miss is infinite and takes part in the median. Cells
that failed, were stopped or are missing have no outcome and are left out. The cost of a crossing is a span: see
``paired``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from estbench.report.analysis.frames import Frames
from estbench.report.analysis.paired import (
    ABSENT,
    MISS,
    Runs,
    Span,
    comparable,
    find_crossing,
    find_ratio,
)
from estbench.stats import Claim, Interval
from estbench.store import Status


class TargetCost(NamedTuple):
    """The cost at which one estimator reached one target."""

    problem: str
    target: float  # test ELBO, in nats per example
    estimator: str
    reached: int  # cells that reached the target
    cells: int  # cells that have an outcome
    medians: dict[str, Span]  # over cells, by currency; without seconds if the cells were timed in several places
    cost_ratio: Interval  # to the reference, paired by seed
    ratio_of: str  # the currency of the ratio


def target_of(runs: Runs) -> float:
    """Return the best bound that every estimator reached, in each of its finished cells."""
    return min(float(run.value.max()) for seeds in runs.values() for run in seeds.values())


def times(frames: Frames, problem: str, runs: Runs, currency: str, target: float) -> dict[str, dict[int, Span]]:
    """Return the cost of the target by estimator and seed, for all that have an outcome. A diverged cell is a miss."""
    costs = {
        label: {seed: find_crossing(run, currency, target) for seed, run in seeds.items()}
        for label, seeds in runs.items()
    }
    planned = frames.cells
    diverged = planned[(planned["problem"] == problem) & (planned["status"] == Status.DIVERGED)]
    for label, seed in zip(diverged["estimator"], diverged["seed"], strict=True):
        costs.setdefault(label, {})[int(seed)] = MISS
    return {label: costs[label] for label in frames.estimators if label in costs}


def find_cost_ratio(ours: dict[int, Span], theirs: dict[int, Span]) -> Claim:
    """Return the cost of ours over that of theirs, paired by seed; NaN if a cell of a common seed missed the target.

    A comparison of only the seeds that reached the target would favour an unreliable estimator.
    """
    if any(MISS in (ours[seed], theirs[seed]) for seed in ours if seed in theirs):
        return Claim(ABSENT, math.nan)
    return find_ratio(ours, theirs)


def find_median(spans: Iterable[Span]) -> Span:
    """Return the medians of the estimates and of both ends, over all seeds, misses included."""
    values = np.array(list(spans), dtype=float)
    return Span(*(float(np.median(column)) for column in values.T))


# Nats below the best mean final bound.
GAPS = (1.0, 5.0, 20.0)


def find_targets(runs: Runs, contenders: Runs, gaps: Iterable[float] = GAPS) -> list[float]:
    """Return the targets at these distances from the best that no run had met before training."""
    means = [sum(float(run.value[-1]) for run in seeds.values()) / len(seeds) for seeds in contenders.values()]
    if not means:
        return []
    starts = [float(run.value[0]) for seeds in runs.values() for run in seeds.values() if run.cost["step"][0] == 0]
    return [max(means) - gap for gap in gaps if max(means) - gap > max(starts, default=-math.inf)]


def find_target_costs(frames: Frames, runs_of: dict[str, Runs], contenders_of: dict[str, Runs]) -> list[TargetCost]:
    """Return the cost of every target for every estimator, by problem and target.

    A problem with fewer than two finished estimators has no targets. The ratio is of training seconds; of evaluations
    if the cells were timed in several places.
    """
    reference, given = frames.reference or "", frames.target
    rows = []
    for problem, runs in runs_of.items():
        if len(runs) < 2:
            continue
        currencies = comparable(frames, runs)
        ratio_of = "seconds" if "seconds" in currencies else "evaluations"
        targets = find_targets(runs, contenders_of[problem]) if given is None else [given]
        for target in targets:
            costs = {currency: times(frames, problem, runs, currency, target) for currency in currencies}
            for estimator, spans in costs[ratio_of].items():
                rows.append(
                    TargetCost(
                        problem=problem,
                        target=target,
                        estimator=estimator,
                        reached=sum(span != MISS for span in spans.values()),
                        cells=len(spans),
                        medians={currency: find_median(costs[currency][estimator].values()) for currency in currencies},
                        cost_ratio=find_cost_ratio(spans, costs[ratio_of].get(reference, {})).interval,
                        ratio_of=ratio_of,
                    )
                )
    return rows
