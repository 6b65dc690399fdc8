"""The noise of each estimator's gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import describe_trajectory, groups, last_common_step, values_by_seed
from estbench.report.analysis.paired import ABSENT, pair_values
from estbench.report.analysis.wording import NOTHING, TIMES, format_list, significant
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval, paired_ratio, t_interval

Measured = TypeVar("Measured", bound=Any)

# Shown if they were measured, with their titles.
OPTIONAL = {
    "data_variance": "variance of the minibatch",
    "bias2": "squared bias",
    "bias_bound": "bias below, of |mean|",
    "cosine": "cosine to the reference",
}
# Those that only the CSV file has have no title.
TITLES = {"snr": "SNR", "mean_norm2": "", **OPTIONAL}
# Which of their numbers are best.
BEST = {"variance": "low", "snr": "high", "bias2": "low", "bias_bound": "low", "cosine": "high"}
# Numbers that are not negative, of which an unbiased estimate may be.
NOT_NEGATIVE = {"mean_norm2", "data_variance", "bias2"}
BELOW_ZERO = "An unbiased estimate of a number that is never negative may fall below zero; it is shown as 0."
# What a statistic can be; an unbiased estimate is not bound to it.
RANGES = {"snr": (0.0, math.inf), "cosine": (-1.0, 1.0)}
# The word for each trajectory, where the page shows one at a time.
TABS = {"shared": "same weights", "own": "own weights"}
# What the rows of one estimator agree in.
PROBED = ["space", "group", "estimator"]
COSTS = {"evaluations": "evaluations", "milliseconds": "ms"}
GRADIENT_OF: Field[Any] = Field(
    "group",
    "gradient of",
    entry=lambda row: Entry(f"{row.group} ({row.space})", short=row.group),
    text=True,
    short="of",
)


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

    def write_ratio(self) -> Entry:
        """Return the entry of the ratio of variances."""
        if self.estimator == self.reference:
            return Entry("reference", key=1)
        entry = format_interval(self.variance_ratio, significant)
        # The row says its n beside the variance; the ratio, only if it has fewer pairs.
        return replace(entry, n=0) if entry.n == self.statistics["variance"].n else entry


@register_table(section="variance")
def gradient_variance_shared(analysis: Analysis) -> Table:
    """Return the statistics of the gradient at the checkpoints of the shared trajectory."""
    return _build(analysis, "shared", "gradient_variance_shared", "Gradient variance at the same weights")


@register_table(section="variance")
def gradient_variance(analysis: Analysis) -> Table:
    """Return one row per space, group and estimator, each on its own trajectory.

    The checkpoint is the last one that all finished runs of a problem share.
    """
    return _build(analysis, "own", "gradient_variance", "Gradient variance at each estimator's own weights")


def _build(analysis: Analysis, trajectory: str, name: str, title: str) -> Table:
    frame, reference = analysis.gradients(trajectory), analysis.reference
    measured = set(frame["statistic"])
    others = [statistic for statistic in TITLES if statistic in measured or statistic not in OPTIONAL]
    every = _find_rows(analysis, frame, ["variance", *others])
    rows, without = leave_out_constant_groups(every, lambda row: (row.problem, row.space, row.group))
    fields: list[Field[GradientRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        GRADIENT_OF,
        Field("space"),
        Field("step"),
        _statistic_field("variance", "variance"),
        Field(
            "variance_ratio",
            f"relative to {reference}" if reference else "ratio",
            entry=GradientRow.write_ratio,
            best="low",
            short="ratio",
        ),
        *cost_fields(rows),
        *(_statistic_field(statistic, TITLES[statistic]) for statistic in others),
        Field("reference"),
        Field("seeds"),
        Field("replicates"),
    ]
    steps = " and ".join(f"{step:,}" for step in sorted({row.step for row in rows}))
    draws = " or ".join(str(count) for count in sorted({row.replicates for row in rows}))
    shown = [each for each in others if TITLES[each] and each in NOT_NEGATIVE]
    below = any(row.statistics[each].value < 0 for row in rows for each in shown)
    sentences = [
        (
            f"The variance of the gradient of one fixed minibatch, from {draws} draws per run: the sum over all "
            f"parameters of a group, at frozen weights ({describe_trajectory(trajectory)}, after {steps} steps)."
        ),
        (
            "In brackets: the 95 % t interval on the log scale, and the value is the geometric mean; the ratio is "
            "paired by seed. Other intervals are in the CSV file."
        ),
        "With one seed, the interval is that of its draws; with two, there is none."
        if any(row.seeds < FEWEST_FOR_AN_INTERVAL for row in rows)
        else "",
        (
            f"Variance {TIMES} evaluations and {TIMES} ms: the variance at equal cost. SNR: length of the mean "
            "gradient over its standard deviation."
        ),
        "Variance of the minibatch: the noise that drawing the minibatch adds." if "data_variance" in others else "",
        "Squared bias: unbiased, against the reference gradient. Bias below: the largest bias that 95 % confidence "
        "allows, as a share of that gradient's length, the largest over seeds."
        if "bias2" in others
        else "",
        BELOW_ZERO if below else "",
        without,
    ]
    table = build_table(
        name,
        title,
        " ".join(filter(None, sentences)),
        fields,
        rows,
        csv_first=("problem", "space", "group", "estimator", "step", "variance", *others),
        blocks=("problem", "space", "group"),
        csv_rows=every,
        short_caption=f"One fixed minibatch, after {steps} steps.",
    )
    return replace(table, group="Gradient variance", tab=TABS[trajectory])


def leave_out_constant_groups(
    rows: list[Measured], place_of: Callable[[Measured], tuple[Any, ...]]
) -> tuple[list[Measured], str]:
    """Return the rows without the groups whose gradient never varies, and a sentence that names these."""
    varying = {place_of(row) for row in rows if row.statistics["variance"].value != 0}
    left_out = [row for row in rows if place_of(row) not in varying]
    if not varying or not left_out:
        return rows, ""
    named = dict.fromkeys(f"{row.group} ({row.space})" for row in left_out)
    sentence = f"Left out, because its variance is always 0: {format_list([*named])}."
    return [row for row in rows if place_of(row) in varying], sentence


def cost_fields(rows: Sequence[Any]) -> list[Field[Any]]:
    """Return the fields of the variance times each cost, which a row holds in ``costs``.

    A cost of one evaluation for all estimators says nothing new, and people do not see it.
    """

    def find_value(cost: Any) -> float:
        return cost.value if isinstance(cost, Interval) else cost

    fields: list[Field[Any]] = []
    for name, title in COSTS.items():
        known = [(find_value(row.costs[name]), row.statistics["variance"].value) for row in rows]
        is_new = any(cost != variance for cost, variance in known)
        fields.append(
            Field(
                f"variance_x_{name}",
                f"variance {TIMES} {title}" if is_new else "",
                partial(_find_cost, name),
                lambda cost: significant(find_value(cost)),
                best="low",
            )
        )
    return fields


def _find_cost(name: str, row: Any) -> Any:
    return row.costs[name]


def write_statistic(name: str, interval: Interval) -> Entry:
    """Return the entry of a statistic: with its interval in full, and never below zero where it cannot be."""
    if name == "bias_bound":
        return Entry(format_bias_bound(interval), n=interval.n)
    if name in NOT_NEGATIVE:
        value, low, high = (0.0 if end < 0 else end for end in interval[:3])
        interval = Interval(value, low, high, interval.n)
    return format_interval(interval, significant)


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
        probed = [*PROBED, "statistic"]
        none = here.iloc[:0]
        counts = here.groupby(PROBED, sort=False).agg({"seed": "nunique", "replicates": "min"})
        counted = dict(zip(counts.index, counts.itertuples(index=False, name=None), strict=True))
        parts = dict(iter(here[[*probed, "pair", "value", "low", "high"]].groupby(probed, sort=False)))
        for space, group in groups(here):
            baseline = values_by_seed(parts.get((space, group, reference, "variance"), none))
            for estimator in order_by_rank(analysis, problem):
                if (space, group, estimator) not in counted:
                    continue
                seeds, replicates = counted[space, group, estimator]
                values = {name: parts.get((space, group, estimator, name), none) for name in statistics}
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
                        seeds=int(seeds),
                        replicates=int(replicates),
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
    if statistic == "variance" or (statistic == "snr" and (values["value"] > 0).all()):
        return log_t_interval(values["value"])
    value, low, high, n = t_interval(values["value"])
    least, most = RANGES.get(statistic, (-math.inf, math.inf))
    return Interval(value, max(low, least), min(high, most), n) if low <= high else Interval(value, low, high, n)


def _multiply(interval: Interval, factor: float | None) -> Interval:
    """Return an interval in other units; an absent one if the factor is not known."""
    if factor is None:
        return ABSENT
    value, low, high, n = interval
    return Interval(value * factor, low * factor, high * factor, n)


def _statistic_field(name: str, title: str) -> Field[GradientRow]:
    """Return the field of one statistic; only the variance is shown with its interval."""

    def write(row: GradientRow) -> Entry:
        entry = write_statistic(name, row.statistics[name])
        return entry if name == "variance" else replace(entry, note="", short="", n=0)

    short = {"variance": "variance", "snr": "SNR"}.get(name, "")
    value = lambda row: row.statistics[name]  # noqa: E731
    return Field(name, title, value, entry=write, best=BEST.get(name, ""), short=short)
