"""Conclusions in words, each with its evidence. No winner is named if an interval includes "no difference".

All are about the final test bounds of finished runs, paired by seed. Every contender is compared with the leader, and
the p-values are corrected for these comparisons (Holm). Two estimators that a user names are also compared by the cost
of reaching the best bound that both reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from estbench.report.analysis.answer import begin, describe_ends, describe_gap, write_answer
from estbench.report.analysis.frames import Frames, Pair
from estbench.report.analysis.leaderboard import Leaderboard
from estbench.report.analysis.paired import CURRENCIES, LEVEL, MISS, Runs, Span, comparable
from estbench.report.analysis.rankings import Ranking, describe_change_of_leader, rank_at_equal_cost
from estbench.report.analysis.targets import find_cost_ratio, target_of, times
from estbench.report.analysis.wording import fixed, format_list, format_p, format_ratio, short_problems
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Claim, Interval
from estbench.store import Status


@dataclass(frozen=True)
class Conclusion:
    """A sentence, and the numbers that it was made from.

    Attributes
    ----------
    kind
        ``leader`` (who is best), ``outcome`` (runs that collapsed, diverged or have no bound), ``currency`` (the leader
        changes with it), ``bound`` (``evidence`` is first less second, in nats per example) or ``time`` (``evidence``
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
    boards: Iterable[Leaderboard], rankings_of: dict[str, list[Ranking]], failed: Collection[str] = ()
) -> list[Conclusion]:
    """Return for each problem who is best, what went wrong, whether the currency matters, and every gap to the best.

    ``failed`` are the estimators whose certificate failed.
    """
    boards = list(boards)
    conclusions: list[Conclusion] = []
    names = short_problems(board.problem for board in boards)
    for board in boards:
        problem, contenders = board.problem, board.contenders
        where = names[problem] if len(boards) > 1 else ""
        leader = contenders[0].estimator if contenders else ""
        decided = board.winner is not None
        conclusions.append(Conclusion(write_answer(board, where), "leader", problem, decided, leader))
        conclusions += [Conclusion(text, "outcome", problem, shown=True) for text in describe_ends(board, where)]
        conclusions += [
            Conclusion(
                begin(where, f"{label} failed its certificate: its gradient is wrong."), "outcome", problem, shown=True
            )
            for label in failed
            if any(entrant.estimator == label for entrant in board.entrants)
        ]
        change = describe_change_of_leader(rankings_of.get(problem, []))
        if change:
            conclusions.append(Conclusion(begin(where, change), "currency", problem, "significant" not in change))
        conclusions += [
            Conclusion(
                begin(where, describe_gap(contenders[0], entrant)),
                "bound",
                problem,
                entrant.is_behind,
                leader,
                entrant.estimator,
                evidence=entrant.gap.interval,
                p=entrant.gap.p,
            )
            for entrant in contenders[1:]
        ]
    return conclusions


def compare_two(
    frames: Frames, runs_of: dict[str, Runs], first: str, second: str, target: float | None = None
) -> list[Conclusion]:
    """Return the conclusions on two estimators, by final bound and by cost of the target, on every problem.

    The target is a test bound in nats per example; by default the best that both reached in every finished cell.
    """
    several = len(frames.problems) > 1
    conclusions: list[Conclusion | None] = []
    for problem, finished in runs_of.items():
        runs = {label: finished[label] for label in (first, second) if label in finished}
        lost = [label for label in (first, second) if label not in runs]
        if lost:
            conclusions += [_name_missing_bound(frames, problem, label) for label in lost]
            continue
        claim = rank_at_equal_cost(runs, "step").claims[first, second]
        comparisons = [
            Comparison("bound", problem, first, second, claim),
            _compare_times(frames, problem, runs, target),
        ]
        conclusions += [_write(frames, each, several=several) for each in comparisons]
    return [conclusion for conclusion in conclusions if conclusion is not None]


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


def _count_reached(spans: dict[Pair, Span]) -> str:
    return f"{sum(span != MISS for span in spans.values())} of {len(spans)}"


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
        text = f"{winner} ends {fixed(size)} nats above {loser} ({evidence})."
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
        quantity, write = "final test bound", fixed
        size = f"difference {fixed(interval.value, sign=True)} nats"
    else:
        quantity, write = f"{CURRENCIES[currency]} to reach {fixed(target)} nats", format_ratio
        size = f"ratio {format_ratio(interval.value)}"
    evidence = _write_evidence(interval.n, interval.low, interval.high, write)
    return f"No difference shown between {first} and {second} in {quantity} ({size}, {evidence}, {format_p(p)})."


def _name_missing_bound(frames: Frames, problem: str, label: str) -> Conclusion:
    counts = _count_cells(frames, problem, label)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    where = f"On {problem}: " if len(frames.problems) > 1 else ""
    text = f"{where}{label} has no final test bound to compare ({ended})."
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
