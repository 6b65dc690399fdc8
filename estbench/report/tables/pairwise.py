"""Every estimator against every other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import LEVEL
from estbench.report.analysis.rankings import Ranking
from estbench.report.analysis.wording import NOTHING, fixed, format_p
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, add_star, format_interval
from estbench.report.tables.fields import Field, build_table, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval


class Pair(NamedTuple):
    """One ordered pair of estimators: the bound of the first less that of the second."""

    problem: str
    bound_name: str
    estimator: str
    other: str
    difference: Interval
    p_holm: float
    ahead: int  # seeds in which the first is ahead
    pairs: int  # seeds that both have

    @property
    def is_significant(self) -> bool:
        """Whether the first is shown to be better."""
        return self.p_holm <= LEVEL and self.difference.low > 0


@register_table(section="pairwise")
def pairwise(analysis: Analysis) -> Table:
    """Return one row per pair, the better one first, from the largest difference to the smallest."""
    # At equal steps: the largest budget of steps that all have come to is the last step.
    rankings = {problem: of_problem[0] for problem, of_problem in analysis.rankings.items()}
    every = [pair for problem, ranking in rankings.items() for pair in _find_pairs(analysis, problem, ranking)]
    order = list(rankings)
    # Of the two orders of a pair, the one with a difference above zero.
    shown = [pair for pair in every if not pair.difference.value < 0]
    kept = {(pair.problem, frozenset({pair.estimator, pair.other})): pair for pair in reversed(shown)}
    rows = sorted(kept.values(), key=lambda pair: (order.index(pair.problem), -np.nan_to_num(pair.difference.value)))
    counts = {sum(not math.isnan(claim.p) for claim in each.claims.values()) // 2 for each in rankings.values()}
    bounds = list(dict.fromkeys(pair.bound_name for pair in every))
    bound = bounds[0] if len(bounds) == 1 else "bound"
    number = " or ".join(map(str, sorted(counts)))
    caption = (
        "Each row is a pair: the first estimator ended above the second. Largest differences first; in nats per "
        "example, paired by seed. In brackets: the 95 % t interval of that one difference. p is corrected (Holm) for "
        f"all {number} pairs{' of a problem' if len(rankings) > 1 else ''}. *: significant, p at most 0.05."
    )
    fields: list[Field[Pair]] = [
        Field("estimator", "better", head=True, short="better"),
        Field("other", "than", head=True, short="than"),
        problem_field(analysis),
        Field("bound_name"),
        Field("difference", f"difference in test {bound}", entry=_write_difference, best="high", short="nats"),
        Field("ahead", "seeds won", entry=lambda pair: f"{pair.ahead} of {pair.pairs}", best="high"),
        Field("p_holm", "p, corrected", write=_write_p, best="low", short="p"),
        Field("pairs"),
    ]
    return build_table(
        "pairwise",
        "Every pair of estimators",
        caption,
        fields,
        rows,
        blocks=("problem",),
        csv_first=("problem", "bound_name", "estimator", "other"),
        csv_rows=every,
        short_caption="Differences in the final test bound, paired by seed; p is corrected for all pairs (Holm).",
    )


def _find_pairs(analysis: Analysis, problem: str, ranking: Ranking) -> list[Pair]:
    pairs = []
    for (first, second), (difference, p) in ranking.claims.items():
        ours, theirs = ranking.spans[first], ranking.spans[second]
        shared = [seed for seed in ours if seed in theirs]
        ahead = sum(ours[seed].value > theirs[seed].value for seed in shared)
        pairs.append(Pair(problem, analysis.name_bound(problem), first, second, difference, p, ahead, len(shared)))
    return pairs


def _write_difference(pair: Pair) -> Entry:
    entry = format_interval(pair.difference, fixed)
    return add_star(entry) if pair.is_significant else entry


def _write_p(p: float) -> str:
    return NOTHING if math.isnan(p) else format_p(p).removeprefix("p ").removeprefix("= ")
