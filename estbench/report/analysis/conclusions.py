"""Verdicts in words, each with its evidence; never a winner where the interval includes none.

All are of the test bound and of finished cells. A pair is compared in two ways: by its final bounds, and by the cost
of reaching the best bound that both reached. Claims are corrected for their number (Holm): those about bounds for all
pairs of the problem, those about times for all that are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.analysis import frames
from estbench.report.analysis.paired import CURRENCIES, LEVEL, MISS, Runs, Span, comparable, finished_runs
from estbench.report.tables.base import fixed
from estbench.report.tables.equal_cost import Standing, at_equal, budget_words, change_of_winner, standings
from estbench.report.tables.pairwise import p_words
from estbench.report.tables.targets import both_reached, target_of, times
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Claim, Interval, holm
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from estbench.store import Results


@dataclass(frozen=True)
class Verdict:
    """A sentence, and the numbers that it was made from.

    ``kind`` is ``leader`` (who is ahead at equal cost), ``currency`` (the leader changes with it), ``outcome`` (no
    bound to compare), ``bound`` (``evidence`` is first less second, in nats) or ``time`` (``evidence`` is the cost of
    first over that of second). ``p`` is corrected for the number of claims (Holm).
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


class Finding(NamedTuple):
    """A comparison of two estimators, before it is put into words; its p-value is corrected."""

    kind: str
    problem: str
    first: str
    second: str
    claim: Claim
    currency: str = "step"
    target: float = math.nan
    reached: tuple[str, str] = ("", "")  # by how many cells, where some missed the target


def verdicts(results: Results) -> list[Verdict]:
    """Who leads at equal cost, whether that depends on the currency, and every estimator against the reference."""
    found = finished_runs(results)
    said: list[Verdict] = []
    for problem, of_problem in standings(results).items():
        said += _leaders(problem, of_problem, several=len(found) > 1)
        changed = change_of_winner(problem, of_problem, len(found))
        if changed:
            said.append(Verdict(changed, "currency", problem, "but no change" not in changed))
    for problem, runs in found.items():
        base = frames.reference(results)
        base = base if base in runs else next(iter(runs), None)
        if base is not None:
            others = [label for label in frames.estimators(results) if label != base]
            said += _pairs(results, problem, runs, [(base, label) for label in others], frames.target(results))
    return said


def pair_verdicts(results: Results, first: str, second: str, target: float | None = None) -> list[Verdict]:
    """Verdicts on two estimators alone, by final bound and by cost of the target, on every problem.

    The target is the best bound that both reached in every finished cell, unless it is given.
    """
    said: list[Verdict] = []
    for problem, found in finished_runs(results).items():
        runs = {label: found[label] for label in (first, second) if label in found}
        said += _pairs(results, problem, runs, [(first, second)], target)
    return said


def _pairs(
    results: Results, problem: str, runs: Runs, pairs: list[tuple[str, str]], target: float | None = None
) -> list[Verdict]:
    """Bounds are corrected for all pairs of ``runs``, as in the pairwise table, and times for the given pairs."""
    lost = dict.fromkeys(label for pair in pairs for label in pair if label not in runs)
    pairs = [pair for pair in pairs if not lost.keys() & {*pair}]
    said = [_without_a_bound(results, problem, label) for label in lost]
    if not pairs:
        return said
    claims = at_equal(runs, "step").claims
    bounds = [Finding("bound", problem, *pair, claims[pair]) for pair in pairs]
    findings = [time_finding(results, problem, {label: runs[label] for label in pair}, target) for pair in pairs]
    adjusted = holm([finding.claim.p for finding in findings])
    speeds = [
        finding._replace(claim=finding.claim._replace(p=float(p)))
        for finding, p in zip(findings, adjusted, strict=True)
    ]
    several = len(frames.problems(results)) > 1
    written = [_written(results, each, several=several) for pair in zip(bounds, speeds, strict=True) for each in pair]
    return [verdict for verdict in written if verdict is not None] + said


def time_finding(results: Results, problem: str, both: Runs, target: float | None = None) -> Finding:
    """The cost of the target of two estimators: training seconds within one place, evaluations otherwise."""
    first, second = both
    target = target_of(both) if target is None else target
    currency = "seconds" if "seconds" in comparable(results, both) else "evaluations"
    costs = times(results, problem, both, currency, target)
    ours, theirs = costs[first], costs[second]
    missed = any(MISS in seeds.values() for seeds in (ours, theirs))
    reached = (_reached(ours), _reached(theirs)) if missed else ("", "")
    return Finding("time", problem, first, second, both_reached(ours, theirs), currency, target, reached)


def _reached(spans: dict[int, Span]) -> str:
    return f"{sum(span != MISS for span in spans.values())} of {len(spans)}"


def _leaders(problem: str, of_problem: list[Standing], *, several: bool) -> list[Verdict]:
    """One sentence for all currencies that have the same leader and the same rivals."""
    groups: dict[tuple[str, ...], list[Standing]] = {}
    for standing in of_problem:
        groups.setdefault((standing.leader, *standing.rivals), []).append(standing)
    said = []
    for (leader, *rivals), same in groups.items():
        budgets = _listed([budget_words(standing) for standing in same])
        where = f"On {problem}, at" if several else "At"
        others = len(same[0].spans) - 1
        if not rivals:
            count = "the other estimator" if others == 1 else f"each of the {others} other estimators"
            largest = max(each.claims[leader, label].p for each in same for label in each.spans if label != leader)
            text = (
                f"{where} equal cost ({budgets}) {leader} has the highest test ELBO, ahead of {count} "
                f"(paired by seed, {_at_most(largest)} after Holm's correction)."
            )
        else:
            text = (
                f"{where} equal cost ({budgets}) no single winner is shown: {leader} has the highest mean test ELBO, "
                f"but no difference to {_listed(rivals)} is shown."
            )
        currencies = ",".join(standing.currency for standing in same)
        said.append(Verdict(text, "leader", problem, not rivals, leader, currency=currencies))
    return said


def _written(results: Results, finding: Finding, *, several: bool) -> Verdict | None:
    """A finding in words; nothing where there is no cost to compare (reached before the first evaluation)."""
    kind, problem, first, second, claim, currency, target, reached = finding
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
        text = _not_shown(finding)
    elif kind == "bound":
        above = interval.value > 0
        winner, loser = (first, second) if above else (second, first)
        size, low, high = interval[:3] if above else (-interval.value, -interval.high, -interval.low)
        evidence = _evidence(interval.n, low, high, fixed)
        text = f"{winner} ends {fixed(size)} nats of test ELBO above {loser} ({evidence})."
    else:
        sooner = interval.value < 1
        winner, loser = (first, second) if sooner else (second, first)
        size, low, high = (1 / interval.value, 1 / interval.high, 1 / interval.low) if sooner else interval[:3]
        text = (
            f"{winner} reaches {nats} {_times(size)} times sooner ({CURRENCIES[currency]}) than {loser} "
            f"({_evidence(interval.n, low, high, _times)})."
        )
    text += _losses(results, problem, first, second) if kind == "bound" else ""
    return Verdict(where + text, kind, problem, shown, first, second, currency, target, interval, p)


def _not_shown(finding: Finding) -> str:
    kind, _, first, second, claim, currency, target, _ = finding
    interval, p = claim
    write: Callable[[float], str]
    if kind == "bound":
        what, write, none = "final test ELBO", fixed, 0.0
        size = f"difference {fixed(interval.value, sign=True)} nats"
    else:
        what, write, none = f"{CURRENCIES[currency]} to reach {fixed(target)} nats", _times, 1.0
        size = f"ratio {_times(interval.value)}"
    corrected = f"; not after correction for the number of comparisons, {p_words(p)}" * interval.excludes(none)
    evidence = _evidence(interval.n, interval.low, interval.high, write)
    return f"No difference shown between {first} and {second} in {what} ({size}, {evidence}{corrected})."


def _without_a_bound(results: Results, problem: str, label: str) -> Verdict:
    counts = _counts(results, problem, label)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    where = f"On {problem}: " if len(frames.problems(results)) > 1 else ""
    text = f"{where}{label} has no final test ELBO to compare ({ended})."
    return Verdict(text, "outcome", problem, shown=False, first=label)


def _counts(results: Results, problem: str, label: str) -> dict[str, int]:
    planned = frames.cells(results)
    mine = planned[(planned["problem"] == problem) & (planned["estimator"] == label)]
    return {str(status): int(count) for status, count in mine["status"].value_counts().items()}


def _losses(results: Results, problem: str, first: str, second: str) -> str:
    """A bound over the survivors flatters: say what was lost."""
    lost = {label: _counts(results, problem, label).get(Status.DIVERGED, 0) for label in (first, second)}
    said = [
        f"{label} diverged in {count} {'cell' if count == 1 else 'cells'}" for label, count in lost.items() if count
    ]
    return f" Not counted: {_listed(said)}." if said else ""


def _evidence(n: int, low: float, high: float, write: Callable[[float], str]) -> str:
    return f"n = {n}, 95 % {write(low)} to {write(high)}"


def _times(ratio: float) -> str:
    """A ratio with the digits that a reader compares."""
    return fixed(ratio, 2 if ratio < 10 else 1 if ratio < 100 else 0)


def _at_most(p: float) -> str:
    return p_words(p) if p < 0.001 else p_words(p).replace("=", "at most")


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
