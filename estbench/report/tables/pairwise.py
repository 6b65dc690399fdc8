"""Every estimator against every other."""

from __future__ import annotations

import math
from typing import NamedTuple

from estbench.report.analysis import Analysis
from estbench.report.analysis.rankings import Ranking
from estbench.report.analysis.wording import NOTHING, format_difference, format_p
from estbench.report.tables.base import Entry, Table, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, frame_of, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval


class PairwiseRow(NamedTuple):
    """One estimator, for people: a row of the matrix."""

    problem: str
    estimator: str
    ranking: Ranking


class Pair(NamedTuple):
    """One ordered pair of estimators: a row of the CSV file."""

    problem: str
    estimator: str
    other: str
    elbo_difference: Interval
    p_holm: float


PAIR_FIELDS: list[Field[Pair]] = [Field(name) for name in Pair._fields]


@register_table(section="pairwise")
def pairwise(analysis: Analysis) -> Table:
    """Return a matrix per problem: final test ELBO of the row's estimator less that of the column's."""
    # At equal steps: the largest budget of steps that all have come to is the last step.
    rankings = {problem: of_problem[0] for problem, of_problem in analysis.rankings.items()}
    ranked = [label for label in analysis.estimators if any(label in each.spans for each in rankings.values())]
    rows = [
        PairwiseRow(problem, label, ranking)
        for problem, ranking in rankings.items()
        for label in ranked
        if label in ranking.spans
    ]
    pairs = [
        Pair(row.problem, row.estimator, other, *row.ranking.claims[row.estimator, other])
        for row in rows
        for other in ranked
        if (row.estimator, other) in row.ranking.claims
    ]
    counts = {sum(not math.isnan(claim.p) for claim in each.claims.values()) // 2 for each in rankings.values()}
    caption = (
        "Final test ELBO of the row's estimator less that of the column's, in nats per example, paired by seed; in "
        "brackets the 95 % t interval of that one difference, which is not corrected for the number of claims. p is "
        f"adjusted: Holm's correction for all {' or '.join(map(str, sorted(counts)))} pairs"
        f"{' of a problem' if len(analysis.problems) > 1 else ''} keeps the chance of "
        "any false claim among them at 5 %, and a star marks the differences that stand (p at most 0.05). Below three "
        "common seeds there is neither."
    )
    return build_table(
        "pairwise",
        "Every pair of estimators",
        caption,
        [ESTIMATOR, problem_field(analysis), *map(_difference_field, ranked)],
        rows,
        blocks=("problem",),
        data=frame_of(PAIR_FIELDS, pairs),
    )


def _difference_field(other: str) -> Field[PairwiseRow]:
    """Return the field of the differences to one estimator."""

    def write(row: PairwiseRow) -> Entry:
        claim = row.ranking.claims.get((row.estimator, other))
        if claim is None:
            return Entry(NOTHING)
        shown = row.ranking.is_ahead(row.estimator, other) or row.ranking.is_ahead(other, row.estimator)
        entry = format_interval(claim.interval, format_difference)
        p = "" if math.isnan(claim.p) else f", {format_p(claim.p)}"
        return Entry(entry.text + (" *" if shown else ""), entry.note + p)

    return Field(f"less {other}", other, value=lambda row: row.ranking.claims.get((row.estimator, other)), entry=write)
