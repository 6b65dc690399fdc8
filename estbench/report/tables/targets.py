"""Time to target: what it costs to reach a test ELBO, in steps, evaluations and training seconds.

The target, unless one is given, is *the best bound that every estimator reached*: the highest value that the test
ELBO of every finished cell came to at some evaluation, so min over cells of max over steps. It is taken over single
cells, not over means of seeds, so that all of them reach it; beside the target of all estimators stands the one that
at least half of them reached, which the others miss.

A cell that diverged is a miss, whatever it had reached before; a miss is infinite and takes part in the median. Cells
that failed, were stopped or are missing say nothing, and are left out. The cost of a crossing is a span: see
``comparison``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from estbench.report.analysis import frames
from estbench.report.analysis.paired import (
    CURRENCIES,
    MISS,
    Runs,
    Span,
    comparable,
    crossing,
    finished_runs,
    ratio,
)
from estbench.report.tables.assemble import assemble, columns_of, entry
from estbench.report.tables.base import NOTHING, Column, Entry, Table, fixed, significant
from estbench.stats import Claim, Interval
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estbench.store import Results


def target_of(runs: Runs, share: float = 1.0) -> float:
    """The best bound that this share of the estimators reached, in each of their finished cells."""
    worst = sorted((min(float(run.value.max()) for run in seeds.values()) for seeds in runs.values()), reverse=True)
    return worst[math.ceil(share * len(worst)) - 1]


def times(results: Results, problem: str, runs: Runs, currency: str, target: float) -> dict[str, dict[int, Span]]:
    """The cost of the target for every estimator and seed that has an outcome; a diverged cell is a miss."""
    found = {
        label: {seed: crossing(run, currency, target) for seed, run in seeds.items()} for label, seeds in runs.items()
    }
    planned = frames.cells(results)
    lost = planned[(planned["problem"] == problem) & (planned["status"] == Status.DIVERGED)]
    for label, seed in zip(lost["estimator"], lost["seed"], strict=True):
        found.setdefault(label, {})[int(seed)] = MISS
    return {label: found[label] for label in frames.estimators(results) if label in found}


def both_reached(ours: dict[int, Span], theirs: dict[int, Span]) -> Claim:
    """Cost of ours over theirs; a comparison of the seeds that reached the target alone would favour the unreliable."""
    if any(MISS in (ours[seed], theirs[seed]) for seed in ours if seed in theirs):
        return Claim(Interval(math.nan, math.nan, math.nan, 0), math.nan)
    return ratio(ours, theirs)


def median(spans: Iterable[Span]) -> Span:
    """The median of the estimates and of both ends, over all seeds, misses included."""
    values = np.array(list(spans), dtype=float)
    return Span(*(float(np.median(column)) for column in values.T))


TARGETS = (
    "Targets: the best bound that every estimator reached in each of its finished cells, then the best that at least "
    "half of the estimators did."
)


def time_to_target(results: Results) -> Table:
    """One row per problem, target and estimator; a problem with fewer than two finished estimators has none."""
    reference = frames.reference(results)
    data: list[dict[str, Any]] = []
    rows = []
    for problem, runs in finished_runs(results).items():
        if len(runs) < 2:
            continue
        currencies = comparable(results, runs)
        given = frames.target(results)
        targets = (target_of(runs), target_of(runs, 0.5)) if given is None else (given,)
        for target in dict.fromkeys(targets):
            costs = {currency: times(results, problem, runs, currency, target) for currency in currencies}
            for estimator, seeds in costs["step"].items():
                reached = sum(span != MISS for span in seeds.values())
                told: dict[str, Any] = {}
                entries = []
                for currency in CURRENCIES:
                    mine = costs[currency][estimator] if currency in costs else {}
                    told |= _columns(currency, mine)
                    entries.append(_median_entry(currency, mine))
                compared = "seconds" if "seconds" in costs else "evaluations"
                theirs = costs[compared].get(reference or "", {})
                claim = both_reached(costs[compared][estimator], theirs)
                row = {"problem": problem, "target": target, "estimator": estimator}
                row |= {"reached": reached, "cells": len(seeds)} | told
                data.append(row | columns_of({"cost_ratio": claim.interval}) | {"ratio_of": CURRENCIES[compared]})
                rows.append(
                    (
                        Entry(estimator),
                        Entry(problem),
                        Entry(fixed(target)),
                        Entry(f"{reached} of {len(seeds)}"),
                        *entries,
                        Entry("reference") if estimator == reference else _ratio_entry(claim),
                    )
                )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("target test ELBO"),
        Column("reached by"),
        *(Column(name) for name in CURRENCIES.values()),
        Column(f"cost relative to {reference}" if reference else "relative cost"),
    ]
    caption = (
        "Cost of first reaching a test ELBO: median over cells, where a miss (never reached, or diverged) is infinite. "
        f"{TARGETS if frames.target(results) is None else 'The target was given.'} A crossing lies between two "
        "evaluations: the value is on the straight line "
        "between them, and the brackets hold the medians of both. The relative cost is of training seconds (of "
        "evaluations where cells were timed in several places), the geometric mean over seeds paired with the "
        "reference; its 95 % t interval on the log scale takes in where between two evaluations each crossing lies, "
        "and there is none where a cell missed or crossed before its first evaluation after the start; above 1 is "
        "later."
    )
    return assemble(results, "time_to_target", "Time to target", caption, data, columns, rows)


def _columns(currency: str, spans: dict[int, Span]) -> dict[str, float]:
    middle = median(spans.values()) if spans else Span(*[math.nan] * 3)
    return dict(zip((currency, f"{currency}_low", f"{currency}_high"), middle, strict=True))


def _median_entry(currency: str, spans: dict[int, Span]) -> Entry:
    if not spans:
        return Entry(NOTHING, "timed in several places")
    middle = median(spans.values())
    if math.isinf(middle.value):
        return Entry("missed")
    value, low, high = (fixed(each, 2 if currency == "seconds" else 0) for each in middle)
    return Entry(value, f"[{low}, {high}]" if middle.low < middle.high else "")


def _ratio_entry(claim: Claim) -> Entry:
    return entry(claim.interval, significant) if not math.isnan(claim.interval.value) else Entry(NOTHING)
