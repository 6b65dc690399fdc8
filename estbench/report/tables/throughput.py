"""How fast each estimator trains, and in how much memory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.tables.assemble import ABSENT, assemble, columns_of, count, entry, whole
from estbench.report.tables.base import Column, Entry, Table, bytes_as_mib, significant
from estbench.stats import log_t_interval, paired_ratio

if TYPE_CHECKING:
    from estbench.store import Results


def throughput(results: Results) -> Table:
    """One row per problem, machine and estimator: speed in its latest session, and the ratio to the reference."""
    frame = frames.timings_by_machine(results)
    machines = list(dict.fromkeys(frame["machine"]))
    data, rows = [], []
    for problem, machine in itertools.product(frames.problems(results), machines):
        here = frame[(frame["problem"] == problem) & (frame["machine"] == machine)]
        for estimator in frames.estimators(results):
            mine = here[here["estimator"] == estimator]
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
                | columns_of(
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
                    entry(rate, whole, unit="rounds"),
                    entry(milliseconds, significant, unit="rounds"),
                    Entry("reference") if estimator == reference else entry(ratio, significant, unit="rounds"),
                    Entry(count(first["evaluations_per_example"])),
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
    return assemble(results, "throughput", "Throughput", caption, data, columns, rows)


def _device(row: pd.Series[Any]) -> str:
    name = str(row["device_name"])
    named = f"{row['device']} ({name})" if name and name != row["device"] else str(row["device"])
    return f"{named}, {count(row['threads'])} threads" if row["device"] == "cpu" else named
