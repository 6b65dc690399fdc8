"""Two estimators side by side: every comparison is paired, and says by what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from estbench.errors import EstbenchError, did_you_mean
from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import ROUND, done, groups, last_common_step, values_by_seed
from estbench.report.analysis.paired import CURRENCIES, Runs, comparable, pair_values
from estbench.report.analysis.targets import find_cost_ratio, find_median, target_of, times
from estbench.report.analysis.wording import MINUS, TIMES, fixed, format_difference, format_rate, significant
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import Field, build_table, problem_field, with_interval
from estbench.stats import Interval, log_t_interval, paired_difference, paired_ratio, t_interval


@dataclass(frozen=True)
class ComparedRow:
    """One quantity of both estimators."""

    problem: str
    quantity: str
    first: Interval
    second: Interval
    comparison: Interval  # first less second, or first over second
    compared_by: str  # "difference" or "ratio"
    write: Callable[[Interval], Entry]  # of the quantity
    unit: str = "seed"  # of n

    def write_comparison(self) -> Entry:
        """Return the entry of the difference with its sign, or of the ratio with a times sign."""
        if self.compared_by == "difference":
            return format_interval(self.comparison, format_difference, self.unit)
        entry = format_interval(self.comparison, significant, self.unit)
        return entry if math.isnan(self.comparison.value) else replace(entry, text=f"{TIMES}{entry.text}")


def find_labels(analysis: Analysis, first: str, second: str) -> tuple[str, str]:
    """Return the labels of two estimators that a user named.

    Raises
    ------
    EstbenchError
        If a name is unknown (the error names the closest one), or if both are the same.
    """
    known = analysis.estimators
    without_spaces = {label.replace(" ", ""): label for label in known}
    labels = []
    for name in (first, second):
        if name.replace(" ", "") not in without_spaces:
            raise EstbenchError(f"no estimator '{name}' in '{analysis.path}'; {did_you_mean(name, known)}")
        labels.append(without_spaces[name.replace(" ", "")])
    if labels[0] == labels[1]:
        raise EstbenchError(f"'{labels[0]}' is given twice; name two estimators of: {', '.join(known)}")
    return labels[0], labels[1]


def compare(analysis: Analysis, first: str, second: str, target: float | None = None) -> Table:
    """Return final test bounds, cost of the target, gradient variance and throughput of two estimators.

    The target is a test bound in nats per example; by default the best that both reached.
    """
    fields: list[Field[ComparedRow]] = [
        Field("quantity", "quantity", head=True, short="quantity"),
        problem_field(analysis),
        Field("compared_by"),
        Field("first", first, entry=lambda row: row.write(row.first), short=first),
        Field("second", second, entry=lambda row: row.write(row.second), short=second),
        Field(
            "comparison",
            f"difference (1 {MINUS} 2) or ratio (1 / 2)",
            entry=ComparedRow.write_comparison,
            short=f"1 {MINUS} 2 or 1 / 2",
        ),
    ]
    caption = (
        f"Differences (1 {MINUS} 2) are in nats per example; ratios (1 / 2) carry the sign {TIMES}. Both are paired, "
        "by seed or by timed round. In brackets: the 95 % t interval, of ratios on the log scale. The cost of a target "
        "is the median over runs; a run that never reached it counts as infinite. The bound is measured now and then: "
        "the cost is interpolated, and the interval includes the measurement before and after."
    )
    return build_table(
        "compare",
        f"{first} against {second}",
        caption,
        fields,
        list(_find_rows(analysis, (first, second), target)),
        csv_first=("problem", "quantity"),
        blocks=("problem",),
    )


def _find_rows(analysis: Analysis, labels: tuple[str, str], target: float | None) -> Iterator[ComparedRow]:
    finished = analysis.runs
    for problem in analysis.problems:
        yield from _compare_bounds(analysis, problem, labels)
        runs = {label: finished[problem][label] for label in labels if label in finished[problem]}
        if len(runs) == 2:
            yield from _compare_costs(analysis, problem, runs, target_of(runs) if target is None else target)
        yield from _compare_variances(analysis, problem, labels)
        yield from _compare_speeds(analysis, problem, labels)


def _compare_bounds(analysis: Analysis, problem: str, labels: tuple[str, str]) -> Iterator[ComparedRow]:
    samples = analysis.setting("evaluation", "num_samples", default="K")
    for metric, title in (("elbo", "final test ELBO"), ("iwae", f"final test IWAE-{samples}")):
        finals = done(analysis.final_values(metric))
        first, second = (values_by_seed(finals, problem=problem, estimator=label) for label in labels)
        difference = paired_difference(*pair_values(first, second))
        yield ComparedRow(
            problem, title, t_interval(first), t_interval(second), difference, "difference", with_interval(fixed)
        )


def _compare_costs(analysis: Analysis, problem: str, runs: Runs, target: float) -> Iterator[ComparedRow]:
    for currency in comparable(analysis, runs):
        costs = times(analysis, problem, runs, currency, target)
        spans = [costs[label] for label in runs]
        first, second = (Interval(*find_median(by_seed.values()), len(by_seed)) for by_seed in spans)
        yield ComparedRow(
            problem,
            f"{CURRENCIES[currency]} to {fixed(target)} nats",
            first,
            second,
            find_cost_ratio(*spans).interval,
            "ratio",
            _write_seconds if currency == "seconds" else _write_whole,
        )


def _compare_variances(analysis: Analysis, problem: str, labels: tuple[str, str]) -> Iterator[ComparedRow]:
    frame = analysis.gradients()
    frame = frame[(frame["problem"] == problem) & frame["estimator"].isin(labels) & (frame["statistic"] == "variance")]
    step = last_common_step(frame)
    if step is None:
        return
    for space, group in groups(frame[frame["step"] == step]):
        first, second = (
            values_by_seed(frame, step=step, space=space, group=group, estimator=label) for label in labels
        )
        yield ComparedRow(
            problem,
            f"gradient variance, {group} ({space}), step {step:,}",
            log_t_interval(first),
            log_t_interval(second),
            paired_ratio(*pair_values(first, second)),
            "ratio",
            with_interval(significant),
        )


def _compare_speeds(analysis: Analysis, problem: str, labels: tuple[str, str]) -> Iterator[ComparedRow]:
    frame = analysis.timings
    frame = frame[(frame["problem"] == problem) & frame["estimator"].isin(labels)]
    if frame["estimator"].nunique() < 2:
        return
    # Rounds of another session or machine have no partner, and so are never compared.
    first, second = (
        (timed["batch_size"] / timed["seconds_per_step"]).astype(float).set_axis(pd.MultiIndex.from_frame(timed[ROUND]))
        for timed in (frame[frame["estimator"] == label] for label in labels)
    )
    yield ComparedRow(
        problem,
        "training examples per second",
        log_t_interval(first),
        log_t_interval(second),
        paired_ratio(*pair_values(first, second)),
        "ratio",
        with_interval(format_rate, "round"),
        "round",
    )


def _write_seconds(cost: Interval) -> Entry:
    return _write_median(cost, 2)


def _write_whole(cost: Interval) -> Entry:
    return _write_median(cost, 0)


def _write_median(cost: Interval, digits: int) -> Entry:
    """Return the entry of a median cost, with the medians of both ends in small print."""
    text = fixed(cost.value, digits) if cost.value < math.inf else "missed"
    return Entry(text, f"[{fixed(cost.low, digits)}, {fixed(cost.high, digits)}]", n=cost.n)
