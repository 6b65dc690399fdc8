"""Who is ahead when all have spent the same: steps, evaluations or training seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from estbench.report.analysis import Analysis
from estbench.report.analysis.answer import begin
from estbench.report.analysis.paired import CURRENCIES
from estbench.report.analysis.rankings import (
    NO_STANDING,
    Standing,
    describe_budget,
    describe_change_of_leader,
)
from estbench.report.analysis.wording import NOTHING, fixed, format_difference
from estbench.report.tables.base import Entry, Table, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.report.tables.registry import register_table


class EqualCostRow(NamedTuple):
    """One estimator on one problem, with its place in each currency that may be compared."""

    problem: str
    estimator: str
    standings: dict[str, Standing]


@register_table(section="target")
def equal_cost(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, with the currencies side by side."""
    rankings = analysis.rankings
    rows = [
        EqualCostRow(problem, estimator, {each.currency: each.find_standing(estimator) for each in of_problem})
        for problem, of_problem in rankings.items()
        for estimator in analysis.estimators
        if estimator in of_problem[0].spans
    ]
    budgets = "; ".join(
        (f"{problem}: " if len(rankings) > 1 else "") + ", ".join(map(describe_budget, of_problem))
        for problem, of_problem in rankings.items()
    )
    changes = [
        begin(problem if len(rankings) > 1 else "", change)
        for problem, of_problem in rankings.items()
        if (change := describe_change_of_leader(of_problem))
    ]
    caption = (
        "Test ELBO, mean nats per example over the finished cells, at the largest budget that all of them have come to "
        f"({budgets}). Where a budget falls between two evaluations, the value is on the straight line between them, "
        "and the 95 % t interval takes both in. The leader has the highest mean; the differences to it are paired by "
        "seed. A star: shown to be behind, p at most 0.05 after Holm's correction for all pairs of estimators. A star "
        "at the leader, and bold: ahead of every other. Seconds are compared within one machine only. "
        + " ".join(changes)
    ).rstrip()
    return build_table(
        "equal_cost",
        "Equal cost",
        caption,
        [ESTIMATOR, problem_field(analysis), *(field for currency in CURRENCIES for field in _fields_of(currency))],
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _fields_of(currency: str) -> list[Field[EqualCostRow]]:
    """Return the fields of one currency: budget, bound, difference to the leader, and its p-value."""

    def standing_of(row: EqualCostRow) -> Standing:
        return row.standings.get(currency, NO_STANDING)

    def write_elbo(row: EqualCostRow) -> Entry:
        standing = standing_of(row)
        if standing is NO_STANDING:
            return Entry(NOTHING, "timed in several places")
        return replace(format_interval(standing.elbo, fixed), best=standing.wins)

    def write_behind(row: EqualCostRow) -> Entry | str:
        standing = standing_of(row)
        if standing is NO_STANDING:
            return NOTHING
        if standing.leads:
            return "leader *" if standing.wins else "leader"
        entry = format_interval(standing.behind.interval, format_difference)
        return replace(entry, text=entry.text + " *") if standing.loses else entry

    name = CURRENCIES[currency]
    return [
        Field(f"{currency}_budget", value=lambda row: standing_of(row).budget),
        Field(f"{currency}_elbo", f"test ELBO at equal {name}", lambda row: standing_of(row).elbo, entry=write_elbo),
        Field(
            f"{currency}_difference",
            f"behind the leader, {name}",
            lambda row: standing_of(row).behind.interval,
            entry=write_behind,
        ),
        Field(f"{currency}_p_holm", value=lambda row: standing_of(row).behind.p),
    ]
