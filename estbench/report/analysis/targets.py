"""Time to target: the cost of reaching a test bound, in steps, evaluations and training seconds.

Unless a target is given, the targets are 1, 5 and 20 nats below the best mean final bound of a contender. A target that
some run had met before training compares nothing and is left out.

A run that diverged or collapsed is a miss, whatever it had reached before. A miss is infinite and takes part in the
median. Runs that failed, were stopped or are missing have no outcome and are left out. The cost of a crossing is a
span: see ``paired``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from estbench.report.analysis.frames import Frames, Pair, pair_of
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
    target: float  # a test bound, in nats per example
    estimator: str
    reached: int  # runs that reached the target
    cells: int  # runs that have an outcome
    medians: dict[str, Span]  # over runs, by currency; without seconds if they were timed in several places
    cost_ratio: Interval  # to the reference, paired by seed
    ratio_of: str  # the currency of the ratio


class Crossing(NamedTuple):
    """The cost at which one run first reached one target."""

    problem: str
    target: float
    estimator: str
    seed: Pair
    costs: dict[str, Span]  # by currency; without seconds if the runs were timed in several places


def target_of(runs: Runs) -> float:
    """Return the best bound that every estimator reached, in each of its finished runs that did not collapse."""
    finished = [run for seeds in runs.values() for run in seeds.values()]
    sound = [run for run in finished if not run.collapsed] or finished
    return min(float(run.value.max()) for run in sound)


def times(frames: Frames, problem: str, runs: Runs, currency: str, target: float) -> dict[str, dict[Pair, Span]]:
    """Return the cost of the target by estimator and seed, for all that have an outcome.

    A run that diverged or collapsed is a miss.
    """
    costs = {
        label: {seed: MISS if run.collapsed else find_crossing(run, currency, target) for seed, run in seeds.items()}
        for label, seeds in runs.items()
    }
    planned = frames.cells
    diverged = planned[(planned["problem"] == problem) & (planned["status"] == Status.DIVERGED)]
    for label, seed in zip(diverged["estimator"], diverged["pair"], strict=True):
        costs.setdefault(label, {})[pair_of(seed)] = MISS
    return {label: costs[label] for label in frames.estimators if label in costs}


def find_cost_ratio(ours: dict[Pair, Span], theirs: dict[Pair, Span]) -> Claim:
    """Return the cost of ours over that of theirs, paired by seed; NaN if a run of a common seed missed the target.

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


def find_crossings(frames: Frames, runs_of: dict[str, Runs], contenders_of: dict[str, Runs]) -> list[Crossing]:
    """Return the cost of every target for every run, by problem, target and estimator.

    A problem with fewer than two finished estimators has no targets.
    """
    rows = []
    for problem, runs in runs_of.items():
        if len(runs) < 2:
            continue
        targets = find_targets(runs, contenders_of[problem]) if frames.target is None else [frames.target]
        for target in targets:
            costs = {currency: times(frames, problem, runs, currency, target) for currency in comparable(frames, runs)}
            rows += [
                Crossing(
                    problem, target, estimator, seed, {each: of_all[estimator][seed] for each, of_all in costs.items()}
                )
                for estimator, seeds in costs["step"].items()
                for seed in seeds
            ]
    return rows


def find_target_costs(frames: Frames, crossings: Iterable[Crossing]) -> list[TargetCost]:
    """Return the cost of every target for every estimator, over its runs.

    The ratio is of training seconds; of evaluations if the runs were timed in several places.
    """
    groups: dict[tuple[str, float], dict[str, dict[Pair, dict[str, Span]]]] = {}
    for row in crossings:
        groups.setdefault((row.problem, row.target), {}).setdefault(row.estimator, {})[row.seed] = row.costs
    rows = []
    for (problem, target), by_estimator in groups.items():
        currencies = list(next(iter(next(iter(by_estimator.values())).values())))
        ratio_of = "seconds" if "seconds" in currencies else "evaluations"
        spans = {
            currency: {
                estimator: {seed: costs[currency] for seed, costs in seeds.items()}
                for estimator, seeds in by_estimator.items()
            }
            for currency in currencies
        }
        reference = spans[ratio_of].get(frames.reference or "", {})
        rows += [
            TargetCost(
                problem=problem,
                target=target,
                estimator=estimator,
                reached=sum(span != MISS for span in seeds.values()),
                cells=len(seeds),
                medians={currency: find_median(spans[currency][estimator].values()) for currency in currencies},
                cost_ratio=find_cost_ratio(seeds, reference).interval,
                ratio_of=ratio_of,
            )
            for estimator, seeds in spans[ratio_of].items()
        ]
    return rows
