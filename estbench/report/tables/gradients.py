"""The noise of each estimator's gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import describe_trajectory, groups, last_common_step, values_by_seed
from estbench.report.analysis.paired import ABSENT, pair_values
from estbench.report.analysis.wording import NOTHING, TIMES, significant
from estbench.report.tables.base import Entry, Table, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, log_t_interval, paired_ratio, t_interval

# Shown if they were measured, with their titles.
OPTIONAL = {
    "data_variance": "data variance",
    "bias2": "squared bias",
    "bias_bound": "bias below, of |mean|",
    "cosine": "cosine to the reference",
}
TITLES = {"snr": "SNR", "mean_norm2": "|mean|²", **OPTIONAL}
COSTS = {"evaluations": "evaluations", "milliseconds": "ms"}
GRADIENT_OF: Field[Any] = Field("group", "gradient of", entry=lambda row: f"{row.group} ({row.space})", text=True)


@dataclass(frozen=True)
class GradientRow:
    """The gradient of one estimator for one group of parameters."""

    problem: str
    space: str
    group: str
    estimator: str
    step: int
    statistics: dict[str, Interval]  # over seeds, by name
    variance_ratio: Interval  # to the reference, paired by seed
    costs: dict[str, Interval]  # the variance times evaluations, and times milliseconds
    reference: str
    seeds: int
    replicates: int

    def write_statistic(self, name: str) -> Entry:
        """Return the entry of a statistic; the small print says if its interval is that of a single probe."""
        interval = self.statistics[name]
        if name == "bias_bound":
            return Entry(format_bias_bound(interval))
        if self.statistics["variance"].n != 1 or not interval.n or math.isnan(interval.low):
            return format_interval(interval, significant)
        ends = f"[{significant(interval.low)}, {significant(interval.high)}]"
        return Entry(significant(interval.value), f"{ends} within one probe, n = 1")

    def write_ratio(self) -> Entry | str:
        """Return the entry of the ratio of variances."""
        if self.estimator == self.reference:
            return "reference"
        return format_interval(self.variance_ratio, significant)


@register_table(section="variance")
def gradient_variance_shared(analysis: Analysis) -> Table:
    """Return the statistics of the gradient at the checkpoints of the shared trajectory."""
    return _build(analysis, "shared", "gradient_variance_shared", "Gradient variance (shared trajectory)")


@register_table(section="variance")
def gradient_variance(analysis: Analysis) -> Table:
    """Return one row per space, group and estimator, each on its own trajectory.

    The checkpoint is the last one that all finished cells of a problem share.
    """
    return _build(analysis, "own", "gradient_variance", "Gradient variance")


def _build(analysis: Analysis, trajectory: str, name: str, title: str) -> Table:
    frame, reference = analysis.gradients(trajectory), analysis.reference
    measured = set(frame["statistic"])
    others = [statistic for statistic in TITLES if statistic in measured or statistic not in OPTIONAL]
    rows = _find_rows(analysis, frame, ["variance", *others])
    fields: list[Field[GradientRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        GRADIENT_OF,
        Field("space"),
        Field("step"),
        _statistic_field("variance", "variance"),
        Field("variance_ratio", f"ratio to {reference}" if reference else "ratio", entry=GradientRow.write_ratio),
        # The value is enough: its interval is that of the variance.
        *cost_fields(lambda cost: significant(cost.value)),
        *(_statistic_field(statistic, TITLES[statistic]) for statistic in others),
        Field("reference"),
        Field("seeds"),
        Field("replicates"),
    ]
    steps = " and ".join(f"{step:,}" for step in sorted({row.step for row in rows}))
    draws = " or ".join(str(count) for count in sorted({row.replicates for row in rows}))
    bias = (
        " Squared bias: unbiased, against the reference gradient; below: the bound of the bias that 95 % confidence "
        "allows, as a share of that gradient's length, the largest over seeds."
        if "bias2" in others
        else ""
    )
    caption = (
        "Variance: trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch, "
        f"from R = {draws} independent draws; {describe_trajectory(trajectory)}, at the last "
        f"checkpoint that all finished cells share (step {steps}). Times evaluations of f per example and times "
        "milliseconds per training step it is the variance at equal cost. |mean|²: squared norm of the mean gradient. "
        f"Data variance: what drawing the minibatch adds.{bias} The variance and its ratio: geometric mean over n "
        "seeds with the 95 % t interval on the log scale, the ratio paired by seed; the rest: mean with the 95 % t "
        "interval. With one seed the interval is the probe's own, over its R draws. Two seeds get none."
    )
    return build_table(
        name,
        title,
        caption,
        fields,
        rows,
        csv_first=("problem", "space", "group", "estimator", "step", "variance", *others),
        blocks=("problem", "space", "group"),
    )


def cost_fields(write: Callable[[Any], str]) -> list[Field[Any]]:
    """Return the fields of the variance times each cost, which a row holds in ``costs``."""
    return [_cost_field(name, title, write) for name, title in COSTS.items()]


def format_bias_bound(interval: Interval) -> str:
    """Return the bound of the bias as a share of the length of the gradient."""
    return NOTHING if math.isnan(interval.value) else f"{significant(100 * interval.value)} %"


def _find_rows(analysis: Analysis, frame: pd.DataFrame, statistics: Iterable[str]) -> list[GradientRow]:
    reference = analysis.reference or ""
    rows = []
    for problem in analysis.problems:
        of_problem = frame[frame["problem"] == problem]
        step = last_common_step(of_problem)
        if step is None:
            continue
        known_costs = dict(zip(COSTS, analysis.costs(problem), strict=True))
        here = of_problem[of_problem["step"] == step]
        for space, group in groups(here):
            of_group = here[(here["space"] == space) & (here["group"] == group)]
            baseline = values_by_seed(of_group, estimator=reference, statistic="variance")
            for estimator in analysis.estimators:
                probed = of_group[of_group["estimator"] == estimator]
                if probed.empty:
                    continue
                values = {name: probed[probed["statistic"] == name] for name in statistics}
                intervals = {name: _over_seeds(name, of_name) for name, of_name in values.items()}
                variances, of_reference = pair_values(values_by_seed(values["variance"]), baseline)
                is_comparable = estimator != reference and len(variances)
                rows.append(
                    GradientRow(
                        problem=problem,
                        space=space,
                        group=group,
                        estimator=estimator,
                        step=step,
                        statistics=intervals,
                        variance_ratio=paired_ratio(variances, of_reference) if is_comparable else ABSENT,
                        costs={
                            name: _multiply(intervals["variance"], cost.get(estimator))
                            for name, cost in known_costs.items()
                        },
                        reference=reference,
                        seeds=probed["seed"].nunique(),
                        replicates=int(probed["replicates"].min()),
                    )
                )
    return rows


def _over_seeds(statistic: str, values: pd.DataFrame) -> Interval:
    """Return a statistic over seeds; with one seed, the interval of its probe."""
    if len(values) == 1:
        only = values.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    if statistic == "bias_bound":
        largest = float(values["value"].max()) if len(values) else math.nan
        return Interval(largest, 0.0, largest, len(values))
    # The others are unbiased estimates, which may fall below zero.
    over = log_t_interval if statistic == "variance" else t_interval
    return over(values["value"])


def _multiply(interval: Interval, factor: float | None) -> Interval:
    """Return an interval in other units; an absent one if the factor is not known."""
    if factor is None:
        return ABSENT
    value, low, high, n = interval
    return Interval(value * factor, low * factor, high * factor, n)


def _statistic_field(name: str, title: str) -> Field[GradientRow]:
    """Return the field of one statistic."""
    return Field(name, title, lambda row: row.statistics[name], entry=lambda row: row.write_statistic(name))


def _cost_field(name: str, title: str, write: Callable[[Any], str]) -> Field[Any]:
    """Return the field of the variance times one cost."""
    return Field(f"variance_x_{name}", f"variance {TIMES} {title}", lambda row: row.costs[name], write)
