"""The ranks at equal cost, in the form in which a site keeps them: from an analysis, or from the table of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.analysis.paired import LEVEL

if TYPE_CHECKING:
    from estbench.report.analysis.rankings import Ranking

# Seconds have no place in a comparison over machines.
CURRENCIES = ("step", "evaluations")


class EqualRank(NamedTuple):
    """The place of an estimator when all have spent the same.

    Attributes
    ----------
    rank, among
        Its rank by the mean test bound, from 1, and the number of estimators that were ranked.
    gap
        The nats that it is behind the best mean, at least 0.
    is_behind
        Whether that is significant (Holm's correction for all pairs).
    """

    rank: int
    among: int
    gap: float
    is_behind: bool


# By currency and estimator; of one problem.
EqualRanks = dict[str, dict[str, EqualRank]]


def from_rankings(rankings: Iterable[Ranking]) -> EqualRanks:
    """Return the ranks of one problem."""
    found: EqualRanks = {}
    for ranking in rankings:
        if ranking.currency in CURRENCIES:
            means = {label: ranking.find_standing(label).elbo.value for label in ranking.spans}
            behind = {label for label in means if ranking.find_standing(label).loses}
            found[ranking.currency] = _rank(means, behind)
    return found


def from_table(rows: Iterable[Mapping[str, str]]) -> dict[str, EqualRanks]:
    """Return the ranks by problem, from the rows of the table ``equal_cost`` of a report."""
    means: dict[tuple[str, str], dict[str, float]] = {}
    behind: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for currency in CURRENCIES:
            at, label = (row["problem"], currency), row["estimator"]
            if text := row.get(f"{currency}_bound"):
                means.setdefault(at, {})[label] = float(text)
                p = row.get(f"{currency}_p_holm") or "nan"
                low, high = (row.get(f"{currency}_difference_{end}") or "nan" for end in ("low", "high"))
                if float(p) <= LEVEL and float(low) <= float(high) < 0:
                    behind.setdefault(at, set()).add(label)
    found: dict[str, EqualRanks] = {}
    for (problem, currency), values in means.items():
        found.setdefault(problem, {})[currency] = _rank(values, behind.get((problem, currency), set()))
    return found


def _rank(means: Mapping[str, float], behind: set[str]) -> dict[str, EqualRank]:
    finite = {label: mean for label, mean in means.items() if math.isfinite(mean)}
    ranked = sorted(finite, key=lambda label: (-finite[label], label))
    return {
        label: EqualRank(at, len(ranked), finite[ranked[0]] - finite[label], label in behind)
        for at, label in enumerate(ranked, 1)
    }
