"""The cost of reaching a test bound."""

from __future__ import annotations

import math

from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import CURRENCIES, Span
from estbench.report.analysis.targets import TargetCost
from estbench.report.analysis.wording import NOTHING, fixed, significant
from estbench.report.tables.base import Entry, Table, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.report.tables.registry import register_table

UNKNOWN = Span(math.nan, math.nan, math.nan)
TARGETS = "Targets: 1, 5 and 20 nats below the best mean final bound, without those that a run had met before training."


@register_table(section="target", order=0)
def time_to_target(analysis: Analysis) -> Table:
    """Return one row per problem, target and estimator; a problem with fewer than two finished estimators has none."""
    reference = analysis.reference

    def write_ratio(row: TargetCost) -> Entry | str:
        if row.estimator == reference:
            return "reference"
        return NOTHING if math.isnan(row.cost_ratio.value) else format_interval(row.cost_ratio, significant)

    fields: list[Field[TargetCost]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("target", "target", write=fixed),
        Field("reached", "reached by", entry=lambda row: f"{row.reached} of {row.cells}"),
        Field("cells"),
        *map(_median_field, CURRENCIES),
        Field("cost_ratio", f"cost relative to {reference}" if reference else "relative cost", entry=write_ratio),
        Field("ratio_of", value=lambda row: CURRENCIES[row.ratio_of]),
    ]
    caption = (
        "Cost of first reaching a test bound, in nats: median over cells, where a miss (never reached, or diverged) is "
        "infinite. "
        f"{TARGETS if analysis.target is None else 'The target was given.'} A crossing lies between two "
        "evaluations: the value is on the straight line "
        "between them, and the brackets hold the medians of both. The relative cost is of training seconds (of "
        "evaluations where cells were timed in several places), the geometric mean over seeds paired with the "
        "reference; its 95 % t interval on the log scale takes in where between two evaluations each crossing lies, "
        "and there is none where a cell missed or crossed before its first evaluation after the start; above 1 is "
        "later."
    )
    return build_table(
        "time_to_target",
        "Time to target",
        caption,
        fields,
        analysis.target_costs,
        csv_first=("problem", "target", "estimator"),
        blocks=("problem", "target"),
    )


def _median_field(currency: str) -> Field[TargetCost]:
    """Return the field of the median cost in one currency."""

    def write(row: TargetCost) -> Entry:
        if currency not in row.medians:
            return Entry(NOTHING, "timed in several places")
        median = row.medians[currency]
        if math.isinf(median.value):
            return Entry("missed")
        value, low, high = (fixed(each, 2 if currency == "seconds" else 0) for each in median)
        return Entry(value, f"[{low}, {high}]" if median.low < median.high else "")

    return Field(currency, CURRENCIES[currency], value=lambda row: row.medians.get(currency, UNKNOWN), entry=write)
