"""The report's tables, from records alone; every value comes with its n, and with an interval where n allows one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report import extract
from estbench.report.table import (
    NOTHING,
    Column,
    Entry,
    Table,
    bytes_as_mib,
    fixed,
    interval_note,
    significant,
)
from estbench.stats import Interval, log_t_interval, paired_difference, paired_ratio, t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from estbench.store import Results

ABSENT = Interval(math.nan, math.nan, math.nan, 0)
# A rule separates rows that differ in these.
BLOCKS = {
    "summary": ("problem",),
    "gradient_variance": ("problem", "space", "group"),
    "throughput": ("problem",),
    "cells": ("problem", "seed"),
    "estimators": (),
}
T_INTERVAL = "In brackets: the 95 % t interval over n seeds; below three seeds there is none."


def all_tables(results: Results) -> list[Table]:
    """Every table that the records have data for."""
    made = [
        summary(results),
        gradient_variance(results),
        throughput(results),
        cells(results),
        declared(results),
    ]
    return [table for table in made if len(table.data)]


def summary(results: Results) -> Table:
    """One row per problem and estimator: final bounds on the test split, the paired difference, time and cost."""
    planned, reference = extract.cells(results), extract.reference(results)
    samples = extract.setting(results, "evaluation", "num_samples", default="K")
    bounds = {"elbo": "test ELBO", "iwae": f"test IWAE-{samples}"}
    finals = {metric: extract.done(extract.final_values(results, metric)) for metric in (*bounds, "iwae_final")}
    if len(finals["iwae_final"]):
        bounds["iwae_final"] = f"test IWAE-{extract.setting(results, 'evaluation', 'final_num_samples', default='K')}"
    data, rows = [], []
    for (problem, estimator), group in planned.groupby(["problem", "estimator"], sort=False):
        finished = extract.done(group)
        counts = {
            "planned": len(group),
            "done": len(finished),
            "diverged": int((group["status"] == Status.DIVERGED).sum()),
        }
        intervals = {metric: t_interval(_by_seed(finals[metric], problem, estimator)) for metric in bounds}
        difference = _difference(finals["elbo"], problem, estimator, reference)
        one_place = len(extract.places(results, finished["folder"])) == 1
        seconds = t_interval(finished["training_seconds"].dropna()) if one_place else ABSENT
        evaluations = t_interval(finished["evaluations"])
        data.append(
            {"problem": problem, "estimator": estimator}
            | counts
            | _columns({f"test_{metric}": interval for metric, interval in intervals.items()})
            | _columns({"elbo_difference": difference, "training_seconds": seconds})
            | {"reference": reference or "", "evaluations": evaluations.value}
        )
        rows.append(
            (
                Entry(str(estimator)),
                Entry(str(problem)),
                Entry(f"{counts['done']} of {counts['planned']}"),
                Entry(str(counts["diverged"])),
                *(_entry(interval, fixed) for interval in intervals.values()),
                Entry("reference") if estimator == reference else _entry(difference, _signed),
                _entry(seconds, fixed) if one_place or finished.empty else Entry(NOTHING, "timed in several places"),
                Entry(f"{evaluations.value:,.0f}" if evaluations.n else NOTHING, f"n = {evaluations.n}"),
            )
        )
    compared = (
        f"The difference is to {reference}, paired over the seeds that both finished."
        if reference
        else ("The reference estimator is not in this experiment, so there is no difference to show.")
    )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("cells done"),
        Column("diverged"),
        *(Column(title) for title in bounds.values()),
        Column(f"Δ test ELBO to {reference}" if reference else "Δ test ELBO"),
        Column("training seconds"),
        Column("evaluations"),
    ]
    caption = (
        "Mean nats per example at the last step over the cells that are done; higher is better, and diverged cells are "
        f"counted but not averaged in. {compared} {T_INTERVAL} Evaluations are calls of f for one sample of one "
        "example, per cell."
    )
    return _table(results, "summary", "Final test bounds", caption, data, columns, rows)


def gradient_variance(results: Results) -> Table:
    """One row per space, group and estimator at the last checkpoint that all finished cells of a problem share."""
    frame, reference = extract.gradients(results), extract.reference(results)
    statistics = ["variance", "snr", "mean_norm2", "data_variance"]
    optional = [name for name in ("data_variance", "bias2") if (frame["statistic"] == name).any()]
    statistics = [*statistics[:3], *optional]
    data: list[dict[str, Any]] = []
    rows = []
    for problem in extract.problems(results):
        here = frame[frame["problem"] == problem]
        step = extract.last_common_step(here)
        if step is None:
            continue
        here = here[here["step"] == step]
        for space, group in extract.groups(here):
            of_group = here[(here["space"] == space) & (here["group"] == group)]
            baseline = of_group[(of_group["estimator"] == reference) & (of_group["statistic"] == "variance")].set_index(
                "seed"
            )["value"]
            for estimator in extract.estimators(results):
                mine = of_group[of_group["estimator"] == estimator]
                if mine.empty:
                    continue
                values = {name: mine[mine["statistic"] == name].set_index("seed") for name in statistics}
                intervals = {name: _over_seeds(name, found) for name, found in values.items()}
                shared = values["variance"].index.intersection(baseline.index)
                ratio = ABSENT
                if estimator != reference and len(shared):
                    ratio = paired_ratio(values["variance"]["value"].loc[shared], baseline.loc[shared])
                replicates = int(mine["replicates"].min())
                where = {
                    "problem": problem,
                    "space": space,
                    "group": group,
                    "estimator": estimator,
                    "step": step,
                }
                data.append(
                    where
                    | _columns(intervals)
                    | _columns({"variance_ratio": ratio})
                    | {
                        "reference": reference or "",
                        "seeds": mine["seed"].nunique(),
                        "replicates": replicates,
                    }
                )
                one_seed = intervals["variance"].n == 1
                rows.append(
                    (
                        Entry(str(estimator)),
                        Entry(str(problem)),
                        Entry(f"{group} ({space})"),
                        _entry(intervals["variance"], significant, jackknife=replicates if one_seed else 0),
                        Entry("reference") if estimator == reference else _entry(ratio, significant),
                        *(
                            _entry(intervals[name], significant, jackknife=replicates if one_seed else 0)
                            for name in statistics[1:]
                        ),
                    )
                )
    titles = {
        "snr": "SNR",
        "mean_norm2": "squared norm of the mean",
        "data_variance": "variance from the data",
        "bias2": "squared bias",
    }
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("gradient of", numeric=False),
        Column("variance"),
        Column(f"ratio to {reference}" if reference else "ratio"),
        *(Column(titles[name]) for name in statistics[1:]),
    ]
    steps = " and ".join(f"{step:,}" for step in sorted({row["step"] for row in data}))
    draws = " or ".join(str(count) for count in sorted({row["replicates"] for row in data}))
    caption = (
        "Variance: trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch, from "
        f"R = {draws} independent draws; each estimator at the weights of its own training, at the last checkpoint that all "
        f"finished cells share (step {steps}). |mean|²: squared norm of the mean gradient. Data variance: what drawing the "
        "minibatch adds. Variances and ratios: geometric mean over n seeds with the 95 % t interval on the log scale; ratios "
        "are paired by seed; the rest: mean with the 95 % t interval. With one seed the interval is the probe's own: the "
        "95 % jackknife over its R draws. Two seeds get none."
    )
    return _table(results, "gradient_variance", "Gradient variance", caption, data, columns, rows)


def throughput(results: Results) -> Table:
    """One row per problem and estimator: speed in its latest session, and the paired ratio to the reference."""
    frame = extract.timings(results)
    data, rows = [], []
    for problem in extract.problems(results):
        for estimator in extract.estimators(results):
            mine = frame[(frame["problem"] == problem) & (frame["estimator"] == estimator)]
            if mine.empty:
                continue
            first = mine.iloc[0]
            reference = str(first["reference"])
            rate = log_t_interval(mine["batch_size"] / mine["seconds_per_step"])
            milliseconds = log_t_interval(1e3 * mine["seconds_per_step"])
            paired = mine.dropna(subset="reference_seconds_per_step")
            ratio = (
                ABSENT
                if estimator == reference
                else paired_ratio(paired["seconds_per_step"], paired["reference_seconds_per_step"])
            )
            memory = float(mine["peak_memory_bytes"].astype(float).max())
            told = {name: first[name] for name in ("device", "device_name", "threads", "machine", "torch", "session")}
            data.append(
                {"problem": problem, "estimator": estimator}
                | _columns(
                    {
                        "examples_per_second": rate,
                        "milliseconds_per_step": milliseconds,
                        "seconds_ratio": ratio,
                    }
                )
                | {"reference": reference, "evaluations_per_example": first["evaluations_per_example"]}
                | {"batch_size": first["batch_size"], "peak_memory_bytes": memory, "rounds": len(mine)}
                | told
            )
            rows.append(
                (
                    Entry(str(estimator)),
                    Entry(str(problem)),
                    _entry(rate, _whole, unit="rounds"),
                    _entry(milliseconds, significant, unit="rounds"),
                    Entry("reference") if estimator == reference else _entry(ratio, significant, unit="rounds"),
                    Entry(_count(first["evaluations_per_example"])),
                    Entry(bytes_as_mib(memory)),
                    Entry(_device(first), str(first["machine"])),
                )
            )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("examples per second"),
        Column("ms per step"),
        Column("seconds relative to the reference"),
        Column("evaluations per example"),
        Column("peak memory, MiB"),
        Column("device", numeric=False),
    ]
    named = ", ".join(dict.fromkeys(str(label) for label in frame["reference"])) or "none"
    caption = (
        "Training steps timed alone, in rounds interleaved over the estimators; the latest session of each. Geometric "
        "mean with the 95 % t interval on the log scale over the rounds. The ratio is of seconds per step, paired with "
        f"the reference ({named}) in the same round, so that a slow phase of the machine cancels; above 1 is slower."
    )
    return _table(results, "throughput", "Throughput", caption, data, columns, rows)


def cells(results: Results) -> Table:
    """One row per planned cell: how it ended, where, and what it cost."""
    finals = extract.final_values(results).set_index(extract.RUN)
    data, rows = [], []
    for cell in extract.cells(results).to_dict("records"):
        run = tuple(cell[key] for key in extract.RUN)
        last = finals.loc[run] if run in finals.index else None
        finished = cell["status"] == Status.DONE
        bound = float(last["value"]) if last is not None and finished else math.nan
        clocks = {
            f"{clock}_seconds": cell.get(f"{clock}_seconds", math.nan) for clock in ("training", "evaluation", "probe")
        }
        data.append(
            dict(zip(extract.RUN, run, strict=True))
            | {
                "status": cell["status"],
                "stop_reason": cell["stop_reason"],
                "test_elbo": bound,
                "step": cell["step"],
            }
            | {"last_finite_elbo": math.nan if last is None else float(last["value"])}
            | clocks
            | {"evaluations": cell["evaluations"], "folder": cell["folder"]}
        )
        note = (
            ""
            if last is None or finished
            else f"last finite: {fixed(float(last['value']))} at step {int(last['step']):,}"
        )
        rows.append(
            (
                Entry(str(cell["estimator"])),
                Entry(str(cell["problem"])),
                Entry(str(cell["seed"])),
                Entry(str(cell["status"]), str(cell["stop_reason"])),
                Entry(fixed(bound), note),
                Entry(_count(cell["step"])),
                *(Entry(fixed(float(seconds), 1)) for seconds in clocks.values()),
                Entry(_count(cell["evaluations"])),
            )
        )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("seed"),
        Column("status", numeric=False),
        Column("test ELBO"),
        Column("step"),
        Column("training s"),
        Column("evaluation s"),
        Column("probe s"),
        Column("evaluations"),
    ]
    caption = (
        "Every planned cell; n = 1 in each row, so there are no intervals. A cell that is not done has no final bound."
    )
    return _table(results, "cells", "Cells", caption, data, columns, rows)


def declared(results: Results) -> Table:
    """One row per estimator: what it says about itself."""
    data: list[dict[str, Any]] = []
    rows = []
    for estimator in extract.estimators(results):
        facts = extract.facts(results, estimator)
        if not facts:
            continue
        supports = facts.get("supports", ())
        row = {
            "estimator": estimator,
            "summary": str(facts.get("summary", "")),
            "unbiased": {True: "yes", False: "no"}.get(facts.get("unbiased"), "unknown"),
            "differentiable_f": {True: "needed", False: "not needed"}.get(
                facts.get("needs_differentiable_f"), "unknown"
            ),
            "evaluations": str(facts.get("evaluations", "")),
            "supports": ", ".join(sorted(map(str, supports))) if isinstance(supports, (list, tuple)) else str(supports),
            "reference": str(facts.get("reference") or ""),
        }
        data.append(row)
        rows.append(tuple(Entry(text) for text in row.values()))
    titles = [
        "estimator",
        "what it is",
        "unbiased",
        "differentiable f",
        "evaluations per example",
        "supports",
        "reference",
    ]
    columns = [Column(title, numeric=False, head=index == 0) for index, title in enumerate(titles)]
    return _table(
        results,
        "estimators",
        "The estimators, as they declare themselves",
        "What each estimator says of itself; `estbench check` puts it to the test.",
        data,
        columns,
        rows,
    )


def _table(
    results: Results,
    name: str,
    title: str,
    caption: str,
    data: list[dict[str, Any]],
    columns: list[Column],
    rows: list[tuple[Entry, ...]],
) -> Table:
    """Put a table together; the column of problems is shown only where there are several."""
    blocks = [tuple(row.get(key) for key in BLOCKS[name]) for row in data]
    rules = frozenset(at for at in range(1, len(blocks)) if blocks[at] != blocks[at - 1])
    kept = [at for at, column in enumerate(columns) if column.title != "problem" or len(extract.problems(results)) > 1]
    return Table(
        name,
        title,
        caption,
        pd.DataFrame(data),
        tuple(columns[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in rows),
        rules,
    )


def _by_seed(frame: pd.DataFrame, problem: Any, estimator: Any) -> pd.Series[float]:
    mine = frame[(frame["problem"] == problem) & (frame["estimator"] == estimator)]
    return mine.set_index("seed")["value"]


def _difference(frame: pd.DataFrame, problem: Any, estimator: Any, reference: str | None) -> Interval:
    if reference is None or estimator == reference:
        return ABSENT
    ours, theirs = _by_seed(frame, problem, estimator), _by_seed(frame, problem, reference)
    shared = ours.index.intersection(theirs.index)
    return paired_difference(ours.loc[shared], theirs.loc[shared])


def _over_seeds(statistic: str, values: pd.DataFrame) -> Interval:
    """A gradient statistic over seeds; the probe's own interval where there is one seed."""
    if len(values) == 1:
        only = values.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    over = log_t_interval if statistic in {"variance", "data_variance"} else t_interval
    return over(values["value"])


def _columns(intervals: dict[str, Interval]) -> dict[str, float | int]:
    """The raw numbers of intervals as columns of a CSV file."""
    return {
        f"{name}{suffix}": number
        for name, interval in intervals.items()
        for suffix, number in zip(("", "_low", "_high", "_n"), interval, strict=True)
    }


def _entry(interval: Interval, write: Callable[[float], str], *, unit: str = "", jackknife: int = 0) -> Entry:
    if jackknife and interval.n and not math.isnan(interval.low):
        return Entry(write(interval.value), f"[{write(interval.low)}, {write(interval.high)}] jackknife, n = 1")
    return Entry(write(interval.value), interval_note(interval, write(interval.low), write(interval.high), unit))


def _whole(value: float) -> str:
    return fixed(value, 0)


def _signed(value: float) -> str:
    return fixed(value, sign=True)


def _count(value: Any) -> str:
    return NOTHING if pd.isna(value) else f"{int(value):,}"


def _device(row: pd.Series[Any]) -> str:
    name = str(row["device_name"])
    named = f"{row['device']} ({name})" if name and name != row["device"] else str(row["device"])
    return f"{named}, {_count(row['threads'])} threads" if row["device"] == "cpu" else named
