"""Conclusions in words, each with its evidence. No winner is named if the interval includes "no difference".

All are about the test bound of finished cells. A pair is compared in two ways: by its final bounds, and by the cost of
reaching the best bound that both reached. P-values are corrected for the number of comparisons (Holm): those of bounds
for all pairs of the problem, those of times for all that are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from estbench.report.analysis.frames import Frames
from estbench.report.analysis.paired import CURRENCIES, LEVEL, MISS, Runs, Span, comparable
from estbench.report.analysis.rankings import (
    Ranking,
    describe_budget,
    describe_change_of_winner,
    rank_at_equal_cost,
)
from estbench.report.analysis.targets import find_cost_ratio, target_of, times
from estbench.report.analysis.wording import fixed, format_list, format_p, format_ratio
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Claim, Interval, holm
from estbench.store import Status


@dataclass(frozen=True)
class Conclusion:
    """A sentence, and the numbers that it was made from.

    Attributes
    ----------
    kind
        ``leader`` (who is ahead at equal cost), ``currency`` (the leader changes with it), ``outcome`` (there is no
        bound to compare), ``bound`` (``evidence`` is first less second, in nats per example) or ``time`` (``evidence``
        is the cost of first over that of second).
    shown
        Whether the evidence is enough.
    p
        The p-value, corrected for the number of comparisons (Holm).
    """

    text: str
    kind: str
    problem: str
    shown: bool
    first: str = ""
    second: str = ""
    currency: str = ""
    target: float = math.nan
    evidence: Interval | None = None
    p: float = math.nan


class Comparison(NamedTuple):
    """A comparison of two estimators, before it is put into words; its p-value is corrected."""

    kind: str
    problem: str
    first: str
    second: str
    claim: Claim
    currency: str = "step"
    target: float = math.nan
    reached: tuple[str, str] = ("", "")  # by how many cells, where some missed the target


def draw_conclusions(
    frames: Frames, runs_of: dict[str, Runs], rankings_of: dict[str, list[Ranking]]
) -> list[Conclusion]:
    """Return who leads at equal cost, whether the currency matters, and each estimator against the reference."""
    conclusions: list[Conclusion] = []
    for problem, rankings in rankings_of.items():
        conclusions += _name_leaders(problem, rankings, several=len(runs_of) > 1)
        change = describe_change_of_winner(problem, rankings, len(runs_of))
        if change:
            conclusions.append(Conclusion(change, "currency", problem, "but no change" not in change))
    for problem, runs in runs_of.items():
        base = frames.reference
        base = base if base in runs else next(iter(runs), None)
        if base is not None:
            others = [label for label in frames.estimators if label != base]
            pairs = [(base, label) for label in others]
            conclusions += _compare_pairs(frames, problem, runs, pairs, frames.target)
    return conclusions


def compare_two(
    frames: Frames, runs_of: dict[str, Runs], first: str, second: str, target: float | None = None
) -> list[Conclusion]:
    """Return the conclusions on two estimators, by final bound and by cost of the target, on every problem.

    The target is a test ELBO in nats per example; by default the best that both reached in every finished cell.
    """
    conclusions: list[Conclusion] = []
    for problem, finished in runs_of.items():
        runs = {label: finished[label] for label in (first, second) if label in finished}
        conclusions += _compare_pairs(frames, problem, runs, [(first, second)], target)
    return conclusions


def _compare_pairs(
    frames: Frames, problem: str, runs: Runs, pairs: list[tuple[str, str]], target: float | None = None
) -> list[Conclusion]:
    """Return the conclusions on some pairs of ``runs``.

    P-values of bounds are corrected for all pairs of ``runs``, as in the pairwise table; those of times for ``pairs``.
    """
    lost = dict.fromkeys(label for pair in pairs for label in pair if label not in runs)
    pairs = [pair for pair in pairs if not lost.keys() & {*pair}]
    without_bound = [_name_missing_bound(frames, problem, label) for label in lost]
    if not pairs:
        return without_bound
    claims = rank_at_equal_cost(runs, "step").claims
    times_of_pairs = [_compare_times(frames, problem, {label: runs[label] for label in pair}, target) for pair in pairs]
    adjusted = holm([each.claim.p for each in times_of_pairs])
    comparisons = [
        each
        for pair, timed, p in zip(pairs, times_of_pairs, adjusted, strict=True)
        for each in (
            Comparison("bound", problem, *pair, claims[pair]),
            timed._replace(claim=timed.claim._replace(p=float(p))),
        )
    ]
    several = len(frames.problems) > 1
    conclusions = [_write(frames, each, several=several) for each in comparisons]
    return [each for each in conclusions if each is not None] + without_bound


def _compare_times(frames: Frames, problem: str, both: Runs, target: float | None = None) -> Comparison:
    """Compare the cost of the target: in training seconds if all were timed in one place, else in evaluations."""
    first, second = both
    target = target_of(both) if target is None else target
    currency = "seconds" if "seconds" in comparable(frames, both) else "evaluations"
    costs = times(frames, problem, both, currency, target)
    ours, theirs = costs[first], costs[second]
    missed = any(MISS in seeds.values() for seeds in (ours, theirs))
    reached = (_count_reached(ours), _count_reached(theirs)) if missed else ("", "")
    return Comparison("time", problem, first, second, find_cost_ratio(ours, theirs), currency, target, reached)


def _count_reached(spans: dict[int, Span]) -> str:
    return f"{sum(span != MISS for span in spans.values())} of {len(spans)}"


def _name_leaders(problem: str, rankings: list[Ranking], *, several: bool) -> list[Conclusion]:
    """Return one sentence for all currencies that have the same leader and the same rivals."""
    groups: dict[tuple[str, ...], list[Ranking]] = {}
    for ranking in rankings:
        groups.setdefault((ranking.leader, *ranking.rivals), []).append(ranking)
    conclusions = []
    for (leader, *rivals), same in groups.items():
        budgets = format_list([describe_budget(ranking) for ranking in same])
        where = f"On {problem}, at" if several else "At"
        others = len(same[0].spans) - 1
        if not rivals:
            count = "the other estimator" if others == 1 else f"each of the {others} other estimators"
            largest = max(each.claims[leader, label].p for each in same for label in each.spans if label != leader)
            text = (
                f"{where} equal cost ({budgets}) {leader} has the highest test ELBO, ahead of {count} "
                f"(paired by seed, {_format_largest_p(largest)} after Holm's correction)."
            )
        else:
            text = (
                f"{where} equal cost ({budgets}) no single winner is shown: {leader} has the highest mean test ELBO, "
                f"but no difference to {format_list(rivals)} is shown."
            )
        currencies = ",".join(ranking.currency for ranking in same)
        conclusions.append(Conclusion(text, "leader", problem, not rivals, leader, currency=currencies))
    return conclusions


def _write(frames: Frames, comparison: Comparison, *, several: bool) -> Conclusion | None:
    """Put a comparison into words; None if there is no cost to compare (reached before the first evaluation)."""
    kind, problem, first, second, claim, currency, target, reached = comparison
    interval, p, none = *claim, 0.0 if kind == "bound" else 1.0
    shown = p <= LEVEL and interval.excludes(none)
    where = f"On {problem}: " if several else ""
    nats = f"{fixed(target)} nats"
    if kind == "time" and any(reached):
        text = (
            f"{nats} of test ELBO are reached by {reached[0]} cells of {first} and by {reached[1]} of {second}: no "
            "ratio of times is given."
        )
    elif interval.n < FEWEST_FOR_AN_INTERVAL or math.isnan(interval.value):
        if kind == "time":
            return None
        text = (
            f"No verdict on {first} and {second}: n = {interval.n} common {'seed' if interval.n == 1 else 'seeds'}, "
            f"and below {FEWEST_FOR_AN_INTERVAL} there is no interval."
        )
    elif not shown:
        text = _write_not_shown(comparison)
    elif kind == "bound":
        above = interval.value > 0
        winner, loser = (first, second) if above else (second, first)
        size, low, high = interval[:3] if above else (-interval.value, -interval.high, -interval.low)
        evidence = _write_evidence(interval.n, low, high, fixed)
        text = f"{winner} ends {fixed(size)} nats of test ELBO above {loser} ({evidence})."
    else:
        sooner = interval.value < 1
        winner, loser = (first, second) if sooner else (second, first)
        size, low, high = (1 / interval.value, 1 / interval.high, 1 / interval.low) if sooner else interval[:3]
        text = (
            f"{winner} reaches {nats} {format_ratio(size)} times sooner ({CURRENCIES[currency]}) than {loser} "
            f"({_write_evidence(interval.n, low, high, format_ratio)})."
        )
    text += _name_diverged(frames, problem, first, second) if kind == "bound" else ""
    return Conclusion(where + text, kind, problem, shown, first, second, currency, target, interval, p)


def _write_not_shown(comparison: Comparison) -> str:
    kind, _, first, second, claim, currency, target, _ = comparison
    interval, p = claim
    write: Callable[[float], str]
    if kind == "bound":
        quantity, write, none = "final test ELBO", fixed, 0.0
        size = f"difference {fixed(interval.value, sign=True)} nats"
    else:
        quantity, write, none = f"{CURRENCIES[currency]} to reach {fixed(target)} nats", format_ratio, 1.0
        size = f"ratio {format_ratio(interval.value)}"
    corrected = f"; not after correction for the number of comparisons, {format_p(p)}" * interval.excludes(none)
    evidence = _write_evidence(interval.n, interval.low, interval.high, write)
    return f"No difference shown between {first} and {second} in {quantity} ({size}, {evidence}{corrected})."


def _name_missing_bound(frames: Frames, problem: str, label: str) -> Conclusion:
    counts = _count_cells(frames, problem, label)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    where = f"On {problem}: " if len(frames.problems) > 1 else ""
    text = f"{where}{label} has no final test ELBO to compare ({ended})."
    return Conclusion(text, "outcome", problem, shown=False, first=label)


def _count_cells(frames: Frames, problem: str, label: str) -> dict[str, int]:
    """Return the number of planned cells of an estimator, by status."""
    planned = frames.cells
    cells = planned[(planned["problem"] == problem) & (planned["estimator"] == label)]
    return {str(status): int(count) for status, count in cells["status"].value_counts().items()}


def _name_diverged(frames: Frames, problem: str, first: str, second: str) -> str:
    """Return a sentence on the cells that diverged: a bound over the others flatters."""
    counts = {label: _count_cells(frames, problem, label).get(Status.DIVERGED, 0) for label in (first, second)}
    parts = [
        f"{label} diverged in {count} {'cell' if count == 1 else 'cells'}" for label, count in counts.items() if count
    ]
    return f" Not counted: {format_list(parts)}." if parts else ""


def _write_evidence(n: int, low: float, high: float, write: Callable[[float], str]) -> str:
    return f"n = {n}, 95 % {write(low)} to {write(high)}"


def _format_largest_p(p: float) -> str:
    """Return a bound of several p-values."""
    return format_p(p) if p < 0.001 else format_p(p).replace("=", "at most")
