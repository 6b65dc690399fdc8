"""Who is ahead when all have spent the same: steps, evaluations or training seconds."""

from __future__ import annotations

from typing import NamedTuple

from estbench.report.analysis import Analysis
from estbench.report.analysis.answer import begin
from estbench.report.analysis.paired import CURRENCIES
from estbench.report.analysis.rankings import (
    NO_STANDING,
    Ranking,
    Standing,
    describe_budget,
    describe_change_of_leader,
)
from estbench.report.analysis.wording import NOTHING, fixed, short_problems
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, add_star, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval


class EqualCostRow(NamedTuple):
    """One estimator on one problem, with its place in each currency that may be compared."""

    problem: str
    bound_name: str
    estimator: str
    standings: dict[str, Standing]


@register_table(section="target")
def equal_cost(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, with the currencies side by side."""
    rankings = analysis.rankings
    rows = [
        EqualCostRow(
            problem,
            analysis.name_bound(problem),
            estimator,
            {each.currency: each.find_standing(estimator) for each in of_problem},
        )
        for problem, of_problem in rankings.items()
        for estimator in order_by_rank(analysis, problem)
        if estimator in of_problem[0].spans
    ]
    names = short_problems(analysis.problems)
    where = {problem: names[problem] if len(names) > 1 else "" for problem in rankings}
    budgets = "; ".join(
        f"{where[problem]}: {listed}" if where[problem] else listed
        for problem, of_problem in rankings.items()
        for listed in [", ".join(map(describe_budget, of_problem))]
    )
    changes = [
        begin(where[problem], change)
        for problem, of_problem in rankings.items()
        if (change := describe_change_of_leader(of_problem))
    ]
    same = _cost_alike(rankings)
    sentences = [
        (
            f"Mean test bound in nats per example when all have spent the same ({budgets}): the largest budget that "
            "every finished run has come to. Seconds are compared within one machine only."
        ),
        (
            "Behind the best: the difference to the highest mean, paired by seed, with its 95 % t interval. Between "
            "two measurements the bound is interpolated, and the interval includes both."
        ),
        (
            "*: significantly behind the best (p at most 0.05; Holm's correction for all pairs). Bold: significantly "
            "better than all others. The intervals of the means are in the CSV file."
        ),
        "Evaluations are not shown: each estimator needs the same for a step." if same else "",
        *changes,
    ]
    bounds = list(dict.fromkeys(row.bound_name for row in rows))
    bound = bounds[0] if len(bounds) == 1 else "bound"
    fields = [field for currency in CURRENCIES for field in _fields_of(currency, bound, same=same)]
    return build_table(
        "equal_cost",
        "Equal cost",
        " ".join(filter(None, sentences)),
        [ESTIMATOR, problem_field(analysis), Field("bound_name"), *fields],
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
        short_caption="Nats behind the best when all have spent the same. *: significant.",
    )


def _cost_alike(rankings: dict[str, list[Ranking]]) -> bool:
    """Return whether the rankings at equal steps are those at equal evaluations."""
    by_currency = [{ranking.currency: ranking.spans for ranking in of_problem} for of_problem in rankings.values()]
    return all(spans["step"] == spans["evaluations"] for spans in by_currency)


def _fields_of(currency: str, bound: str, *, same: bool) -> list[Field[EqualCostRow]]:
    """Return the fields of one currency: budget, bound (with its name), difference to the best, and its p-value."""

    def standing_of(row: EqualCostRow) -> Standing:
        return row.standings.get(currency, NO_STANDING)

    def write_bound(row: EqualCostRow) -> Entry:
        standing = standing_of(row)
        if standing is NO_STANDING:
            return Entry(NOTHING, "timed in several places")
        return Entry(fixed(standing.elbo.value), best=standing.wins, n=standing.elbo.n)

    def write_behind(row: EqualCostRow) -> Entry:
        standing = standing_of(row)
        if standing is NO_STANDING:
            return Entry(NOTHING)
        if standing.leads:
            return Entry("best", key=0)
        value, low, high, n = standing.behind.interval
        entry = format_interval(Interval(-value, -high, -low, n), fixed)
        return add_star(entry) if standing.loses else entry

    name, hidden = CURRENCIES[currency], same and currency == "evaluations"
    return [
        Field(f"{currency}_budget", value=lambda row: standing_of(row).budget),
        Field(
            f"{currency}_bound",
            "" if hidden else f"test {bound} at equal {name}",
            lambda row: standing_of(row).elbo,
            entry=write_bound,
            best="high",
        ),
        Field(
            f"{currency}_difference",
            "" if hidden else f"behind the best, equal {name}",
            lambda row: standing_of(row).behind.interval,
            entry=write_behind,
            best="low",
            short=name.removeprefix("training "),
        ),
        Field(f"{currency}_p_holm", value=lambda row: standing_of(row).behind.p),
    ]
