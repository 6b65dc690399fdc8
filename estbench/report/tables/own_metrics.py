"""The final values of an experiment's further metrics."""

from __future__ import annotations

from dataclasses import dataclass

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import values_by_seed
from estbench.report.analysis.own_metrics import OwnMetric, find_metrics, last_values
from estbench.report.analysis.wording import significant
from estbench.report.tables.base import Table
from estbench.report.tables.fields import (
    ESTIMATOR,
    Field,
    build_table,
    order_by_rank,
    problem_field,
    with_interval,
)
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, t_interval

BEST = {"higher": "high", "lower": "low"}


@dataclass(frozen=True)
class MetricsRow:
    """The means over finished runs of one estimator on one problem, at the last step."""

    problem: str
    estimator: str
    values: dict[tuple[str, str], Interval]  # by metric and split


@register_table(section="metrics")
def own_metrics(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, with a column for each metric; other splits are in the CSV file."""
    metrics = find_metrics(analysis)
    fields: list[Field[MetricsRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        *(_field(metric, split) for metric in metrics for split in metric.splits),
    ]
    directions = "; ".join(f"{metric.label}: {metric.better} is better" for metric in metrics if metric.better)
    sentences = [
        "Means over finished runs at the last step.",
        f"{directions}." if directions else "",
        "In brackets: the 95 % t interval over seeds.",
        "Further splits are in the CSV file." if any(len(metric.splits) > 1 for metric in metrics) else "",
    ]
    return build_table(
        "own_metrics",
        "Final values of metrics",
        " ".join(filter(None, sentences)),
        fields,
        _find_rows(analysis, metrics),
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _field(metric: OwnMetric, split: str) -> Field[MetricsRow]:
    """Return the field of a metric on one split; people see the first one."""
    key = metric.name, split
    shown = split == metric.splits[0]
    return Field(
        f"{metric.name}.{split}",  # no name has a dot, so no two fields fill one column
        f"{split} {metric.title}" if shown else "",
        lambda row: row.values[key],
        write=with_interval(significant),
        best=BEST.get(metric.better, ""),
        short=metric.label if shown else "",
        keep=True,
    )


def _find_rows(analysis: Analysis, metrics: list[OwnMetric]) -> list[MetricsRow]:
    finals = {
        (metric.name, split): last_values(analysis, metric.name, split) for metric in metrics for split in metric.splits
    }
    rows = []
    for problem in analysis.problems:
        for estimator in order_by_rank(analysis, problem):
            values = {
                key: t_interval(values_by_seed(frame, problem=problem, estimator=estimator))
                for key, frame in finals.items()
            }
            if any(interval.n for interval in values.values()):
                rows.append(MetricsRow(problem, estimator, values))
    return rows
