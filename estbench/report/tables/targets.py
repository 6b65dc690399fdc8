"""The cost of reaching a test bound."""

from __future__ import annotations

import math
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import CURRENCIES, MISS, Span
from estbench.report.analysis.targets import Crossing, TargetCost
from estbench.report.analysis.wording import NOTHING, fixed, significant
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field
from estbench.report.tables.registry import register_table

UNKNOWN = Span(math.nan, math.nan, math.nan)
TARGETS = "Targets: 1, 5 and 20 nats below the best mean final bound, without those that a run had met before training."
INTERPOLATED = "In brackets: the measurement before and after; the number between them is interpolated."


@register_table(section="target", order=0)
def time_to_target(analysis: Analysis) -> Table:
    """Return one row per problem, target and estimator; a problem with fewer than two finished estimators has none."""
    reference = analysis.reference

    def write_ratio(row: TargetCost) -> Entry:
        if row.estimator == reference:
            return Entry("reference", key=1)
        return Entry(NOTHING) if math.isnan(row.cost_ratio.value) else format_interval(row.cost_ratio, significant)

    rows = _sort_by_rank(analysis, analysis.target_costs)
    compared = any(not math.isnan(row.cost_ratio.value) for row in rows if row.estimator != reference)
    ratio_of = " or ".join(dict.fromkeys(CURRENCIES[row.ratio_of] for row in rows))
    fields: list[Field[TargetCost]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("target", "target", write=fixed, short="target"),
        Field("reached", "reached by", entry=lambda row: f"{row.reached} of {row.cells}", best="high"),
        Field("cells"),
        *(_cost_field(currency, "medians") for currency in CURRENCIES),
        Field(
            "cost_ratio",
            f"cost relative to {reference}" if compared else "",
            entry=write_ratio,
            best="low",
            short="ratio",
        ),
        Field("ratio_of", value=lambda row: CURRENCIES[row.ratio_of]),
    ]
    sentences = [
        (
            "What it cost to reach a test bound (in nats per example) for the first time: the median over runs. A run "
            "that diverged, collapsed or never came so far is a miss; if half of the runs miss, so does the median."
        ),
        TARGETS if analysis.target is None else "The target was given.",
        INTERPOLATED,
        f"Relative cost: in {ratio_of}, paired by seed, the geometric mean with the 95 % t interval on the log scale; "
        "above 1 is slower. There is none where a run missed the target, or met it before the first measurement after "
        "the start."
        if compared
        else "",
    ]
    return build_table(
        "time_to_target",
        "Time to target",
        " ".join(filter(None, sentences)),
        fields,
        rows,
        csv_first=("problem", "target", "estimator"),
        blocks=("problem", "target"),
        short_caption="Median cost of reaching a test bound for the first time.",
    )


@register_table(section="target", order=40, folded="Every run: when it first reached each target")
def first_crossings(analysis: Analysis) -> Table:
    """Return one row per problem, target, estimator and seed: the numbers that medians and ratios are made from."""
    fields: list[Field[Crossing]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("target", "target", write=fixed, short="target"),
        Field("seed", "seed", short="seed"),
        *(_cost_field(currency, "costs") for currency in CURRENCIES),
    ]
    return build_table(
        "first_crossings",
        "First time at a target, by run",
        f"What it cost each run to reach a test bound for the first time. {INTERPOLATED} A run that diverged or "
        "collapsed is a miss.",
        fields,
        _sort_by_rank(analysis, analysis.crossings),
        csv_first=("problem", "target", "estimator", "seed"),
        blocks=("problem", "target", "estimator"),
        short_caption="Cost of reaching a test bound for the first time.",
    )


def _sort_by_rank(analysis: Analysis, rows: list[Any]) -> list[Any]:
    """Return the rows of every problem and target with the best estimator first."""
    order = {problem: order_by_rank(analysis, problem) for problem in analysis.problems}
    blocks = list(dict.fromkeys((row.problem, row.target) for row in rows))

    def place(row: Any) -> tuple[int, int, int]:
        rank = order[row.problem].index(row.estimator)
        return blocks.index((row.problem, row.target)), rank, getattr(row, "seed", 0)

    return sorted(rows, key=place)


def _cost_field(currency: str, attribute: str) -> Field[Any]:
    """Return the field of a cost in one currency, from the attribute that has it in all currencies."""

    def find(row: Any) -> Span | None:
        costs: dict[str, Span] = getattr(row, attribute)
        return costs.get(currency)

    def write(row: Any) -> Entry:
        cost = find(row)
        if cost is None:
            return Entry(NOTHING, "timed in several places")
        if cost == MISS:
            return Entry("missed", key=math.inf)
        value, low, high = (fixed(each, 2 if currency == "seconds" else 0) for each in cost)
        return Entry(value, f"[{low}, {high}]" if cost.low < cost.high else "")

    name = CURRENCIES[currency]
    short = "" if currency == "evaluations" else name.removeprefix("training ")
    return Field(currency, name, value=lambda row: find(row) or UNKNOWN, entry=write, best="low", short=short)
