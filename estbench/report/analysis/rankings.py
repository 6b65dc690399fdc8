"""Rankings at equal cost: who is ahead when all have spent the same steps, evaluations or training seconds."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from estbench.report.analysis.frames import Frames, Pair
from estbench.report.analysis.paired import (
    ABSENT,
    CURRENCIES,
    LEVEL,
    Runs,
    Span,
    comparable,
    find_difference,
    find_value,
)
from estbench.report.analysis.wording import fixed, format_count
from estbench.stats import Claim, Interval, holm, spanned_claim

# The words for one unit of a cost.
PER = {"step": "step", "evaluations": "evaluation", "seconds": "second"}


class Standing(NamedTuple):
    """The place of one estimator in a ranking."""

    budget: float
    elbo: Interval  # mean test ELBO over its cells, in nats per example
    behind: Claim  # the estimator less the leader; absent for the leader
    leads: bool
    wins: bool  # it leads, and is shown to be ahead of every other
    loses: bool  # it is shown to be behind the leader


NO_STANDING = Standing(math.nan, ABSENT, Claim(ABSENT, math.nan), leads=False, wins=False, loses=False)


class Ranking(NamedTuple):
    """The estimators of one problem at one budget, paired by seed, best mean first."""

    currency: str
    budget: float
    spans: dict[str, dict[Pair, Span]]  # the test ELBO at the budget, by estimator and seed
    claims: dict[tuple[str, str], Claim]  # of every ordered pair, p-values adjusted for all pairs (Holm)

    @property
    def leader(self) -> str:
        """The estimator with the highest mean; the mean is not enough to make it the winner."""
        return next(iter(self.spans))

    def is_ahead(self, first: str, second: str) -> bool:
        """Return whether ``first`` is shown to be better than ``second``."""
        claim = self.claims[first, second]
        return claim.p <= LEVEL and claim.interval.low > 0

    @property
    def winner(self) -> str | None:
        """The leader if it is shown to be ahead of every other; None otherwise."""
        return None if self.rivals else self.leader

    @property
    def rivals(self) -> list[str]:
        """The estimators that the leader is not shown to be ahead of."""
        return [label for label in self.spans if label != self.leader and not self.is_ahead(self.leader, label)]

    def find_standing(self, estimator: str) -> Standing:
        """Return the place of an estimator; KeyError if it is not in the ranking."""
        spans = self.spans[estimator].values()
        ends = ([getattr(span, end) for span in spans] for end in ("low", "value", "high"))
        leads = estimator == self.leader
        return Standing(
            self.budget,
            spanned_claim(*ends).interval,
            Claim(ABSENT, math.nan) if leads else self.claims[estimator, self.leader],
            leads=leads,
            wins=estimator == self.winner,
            loses=not leads and self.is_ahead(self.leader, estimator),
        )


def rank_at_equal_cost(runs: Runs, currency: str) -> Ranking:
    """Rank the estimators at the largest budget that every finished cell has come to."""
    budget = min(float(run.cost[currency][-1]) for seeds in runs.values() for run in seeds.values())
    values = {
        label: {seed: find_value(run, currency, budget) for seed, run in seeds.items()} for label, seeds in runs.items()
    }
    means = {label: sum(span.value for span in spans.values()) / len(spans) for label, spans in values.items()}
    values = {label: values[label] for label in sorted(values, key=lambda label: -means[label])}
    pairs = list(itertools.combinations(values, 2))
    differences = [find_difference(values[first], values[second]) for first, second in pairs]
    adjusted = holm([claim.p for claim in differences])
    claims = {}
    for (first, second), claim, p in zip(pairs, differences, adjusted, strict=True):
        value, low, high, n = claim.interval
        claims[first, second] = Claim(claim.interval, float(p))
        claims[second, first] = Claim(Interval(-value, -high, -low, n), float(p))
    return Ranking(currency, budget, values, claims)


def find_rankings(frames: Frames, runs_of: dict[str, Runs]) -> dict[str, list[Ranking]]:
    """Return one ranking per currency, by problem, for every problem with at least two finished estimators."""
    return {
        problem: [rank_at_equal_cost(runs, currency) for currency in comparable(frames, runs)]
        for problem, runs in runs_of.items()
        if len(runs) > 1
    }


def describe_budget(ranking: Ranking) -> str:
    """Return the budget of a ranking in words."""
    amount = fixed(ranking.budget, 2) if ranking.currency == "seconds" else format_count(ranking.budget)
    return f"{amount} {CURRENCIES[ranking.currency]}"


def describe_change_of_leader(rankings: list[Ranking]) -> str:
    """Return a sentence that says that the leader depends on the currency, and whether that is shown; empty if not."""
    leaders: dict[str, list[str]] = {}
    for ranking in rankings:
        leaders.setdefault(ranking.leader, []).append(PER[ranking.currency])
    if len(leaders) < 2:
        return ""
    is_shown = any(
        one.is_ahead(one.leader, other.leader) and other.is_ahead(other.leader, one.leader)
        for one, other in itertools.combinations(rankings, 2)
        if one.leader != other.leader
    )
    listed = ", ".join(f"{leader} per {' and '.join(ways)}" for leader, ways in leaders.items())
    text = f"The best mean depends on how cost is counted: {listed}."
    return text if is_shown else f"{text} Not all of these leads are significant."
