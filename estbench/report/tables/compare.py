"""Two estimators side by side: every comparison is paired, and says by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.errors import EstbenchError, did_you_mean
from estbench.report.analysis import frames
from estbench.report.analysis.paired import CURRENCIES, Runs, comparable, finished_runs
from estbench.report.tables.assemble import assemble, columns_of, entry, signed, whole
from estbench.report.tables.base import TIMES, Column, Entry, Table, fixed, significant
from estbench.report.tables.targets import both_reached, median, target_of, times
from estbench.stats import Interval, log_t_interval, paired_difference, paired_ratio, t_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from estbench.store import Results


class Lines:
    """The table as it grows: one line per quantity."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []
        self.rows: list[tuple[Entry, ...]] = []

    def add(
        self,
        problem: str,
        quantity: str,
        values: tuple[Interval, Interval],
        comparison: Interval,
        write: Callable[[float], str],
        *,
        ratio: bool,
        unit: str = "",
        shown: tuple[Entry, Entry] | None = None,
    ) -> None:
        """One quantity of both, and the paired difference or ratio."""
        named = {"first": values[0], "second": values[1], "comparison": comparison}
        told = {"problem": problem, "quantity": quantity, "compared_by": "ratio" if ratio else "difference"}
        self.data.append(told | columns_of(named))
        compared = entry(comparison, significant if ratio else signed, unit=unit)
        marked = Entry(f"{TIMES}{compared.text}", compared.note) if ratio and pd.notna(comparison.value) else compared
        entries = shown or tuple(entry(value, write, unit=unit) for value in values)
        self.rows.append((Entry(quantity), Entry(problem), *entries, marked))


def checked(results: Results, first: str, second: str) -> tuple[str, str]:
    """The labels that are meant; an unknown one is an error that names the nearest."""
    known = frames.estimators(results)
    written = {label.replace(" ", ""): label for label in known}
    labels = []
    for name in (first, second):
        if name.replace(" ", "") not in written:
            raise EstbenchError(f"no estimator '{name}' in '{results.path}'; {did_you_mean(name, known)}")
        labels.append(written[name.replace(" ", "")])
    if labels[0] == labels[1]:
        raise EstbenchError(f"'{labels[0]}' is given twice; name two estimators of: {', '.join(known)}")
    return labels[0], labels[1]


def compare(results: Results, first: str, second: str, target: float | None = None) -> Table:
    """Final test bounds, cost of the target, gradient variance and throughput of two estimators."""
    lines = Lines()
    found = finished_runs(results)
    for problem in frames.problems(results):
        _bounds(lines, results, problem, (first, second))
        runs = {label: found[problem][label] for label in (first, second) if label in found[problem]}
        if len(runs) == 2:
            _costs(lines, results, problem, runs, target_of(runs) if target is None else target)
        _variances(lines, results, problem, (first, second))
        _speeds(lines, results, problem, (first, second))
    columns = [
        Column("quantity", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column(first),
        Column(second),
        Column("first less, or over, second"),
    ]
    caption = (
        "Differences are of nats per example; ratios carry a times sign. Both are paired, by seed or by timed round, "
        "with 95 % t intervals (of ratios on the log scale); below three pairs there is none. Cost of a target: median "
        "over cells, where a miss is infinite; a crossing is known to lie between two evaluations, and the interval "
        "takes that in."
    )
    return assemble(results, "compare", f"{first} against {second}", caption, lines.data, columns, lines.rows)


def _bounds(lines: Lines, results: Results, problem: str, labels: tuple[str, str]) -> None:
    samples = frames.setting(results, "evaluation", "num_samples", default="K")
    for metric, title in (("elbo", "final test ELBO"), ("iwae", f"final test IWAE-{samples}")):
        finals = frames.done(frames.final_values(results, metric))
        finals = finals[finals["problem"] == problem]
        values = [finals[finals["estimator"] == label].set_index("seed")["value"].astype(float) for label in labels]
        means = (t_interval(values[0]), t_interval(values[1]))
        lines.add(problem, title, means, _paired(paired_difference, *values), fixed, ratio=False)


def _costs(lines: Lines, results: Results, problem: str, runs: Runs, target: float) -> None:
    for currency in comparable(results, runs):
        costs = list(times(results, problem, runs, currency, target).items())
        costs.sort(key=lambda item: item[0] != next(iter(runs)))
        spans = [seeds for label, seeds in costs if label in runs]
        middles = [median(each.values()) for each in spans]
        digits = 2 if currency == "seconds" else 0
        shown = [
            Entry(
                fixed(middle.value, digits) if middle.value < float("inf") else "missed",
                f"[{fixed(middle.low, digits)}, {fixed(middle.high, digits)}], n = {len(each)}",
            )
            for middle, each in zip(middles, spans, strict=True)
        ]
        values = [Interval(*middle, len(each)) for middle, each in zip(middles, spans, strict=True)]
        lines.add(
            problem,
            f"{CURRENCIES[currency]} to {fixed(target)} nats",
            (values[0], values[1]),
            both_reached(*spans).interval,
            fixed,
            ratio=True,
            shown=(shown[0], shown[1]),
        )


def _variances(lines: Lines, results: Results, problem: str, labels: tuple[str, str]) -> None:
    frame = frames.gradients(results)
    frame = frame[(frame["problem"] == problem) & frame["estimator"].isin(labels) & (frame["statistic"] == "variance")]
    step = frames.last_common_step(frame)
    if step is None:
        return
    frame = frame[frame["step"] == step]
    for space, group in frames.groups(frame):
        here = frame[(frame["space"] == space) & (frame["group"] == group)]
        values = [here[here["estimator"] == label].set_index("seed")["value"].astype(float) for label in labels]
        means = (log_t_interval(values[0]), log_t_interval(values[1]))
        title = f"gradient variance, {group} ({space}), step {step:,}"
        lines.add(problem, title, means, _paired(paired_ratio, *values), significant, ratio=True)


def _speeds(lines: Lines, results: Results, problem: str, labels: tuple[str, str]) -> None:
    frame = frames.timings(results)
    frame = frame[(frame["problem"] == problem) & frame["estimator"].isin(labels)]
    if frame["estimator"].nunique() < 2:
        return
    rates = [
        (mine["batch_size"] / mine["seconds_per_step"])
        .astype(float)
        .set_axis(pd.MultiIndex.from_frame(mine[frames.ROUND]))
        for mine in (frame[frame["estimator"] == label] for label in labels)
    ]
    means = (log_t_interval(rates[0]), log_t_interval(rates[1]))
    # Rounds of another session or machine have no partner, and so are never compared.
    lines.add(
        problem, "training examples per second", means, _paired(paired_ratio, *rates), whole, ratio=True, unit="rounds"
    )


def _paired(compared: Callable[..., Interval], ours: pd.Series[float], theirs: pd.Series[float]) -> Interval:
    shared = ours.index.intersection(theirs.index)
    return compared(ours.loc[shared], theirs.loc[shared])
