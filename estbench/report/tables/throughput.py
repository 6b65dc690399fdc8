"""The training speed and the memory of each estimator."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import ABSENT, relative_time
from estbench.report.analysis.wording import bytes_as_mib, format_count, format_rate, significant
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field, with_interval
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, log_t_interval


@dataclass(frozen=True)
class ThroughputRow:
    """The latest session of one estimator on one problem and machine."""

    problem: str
    estimator: str
    examples_per_second: Interval
    milliseconds_per_step: Interval
    seconds_ratio: Interval  # to the reference, paired by round
    peak_memory_bytes: float
    rounds: int
    session: dict[str, Any]  # what all rounds have in common, by column

    @property
    def reference(self) -> str:
        """The label of the estimator that the ratio is to."""
        return str(self.session["reference"])

    def write_ratio(self) -> Entry:
        """Return the entry of the ratio."""
        if self.estimator == self.reference:
            return Entry("reference", key=1)
        return format_interval(self.seconds_ratio, significant, "round")

    def write_device(self) -> Entry:
        """Return the device, with the threads of a CPU, and in small print the machine."""
        device, name = str(self.session["device"]), str(self.session["device_name"])
        text = f"{device} ({name})" if name and name != device else device
        if device == "cpu":
            threads = self.session["threads"]
            text += f", {format_count(threads)} thread{'' if threads == 1 else 's'}"
        return Entry(text, str(self.session["machine"]))


@register_table(section="throughput")
def throughput(analysis: Analysis) -> Table:
    """Return one row per problem, machine and estimator: its speed, and the ratio to the reference."""
    rows = _find_rows(analysis)
    references = " or ".join(dict.fromkeys(row.reference for row in rows)) or "the reference"
    fields: list[Field[ThroughputRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("examples_per_second", "examples per second", write=with_interval(format_rate, "round"), best="high"),
        Field(
            "milliseconds_per_step",
            "ms per step",
            write=with_interval(significant, "round"),
            best="low",
            short="ms per step",
        ),
        Field(
            "seconds_ratio",
            f"time relative to {references}",
            entry=ThroughputRow.write_ratio,
            best="low",
            short="relative time",
        ),
        Field("reference"),
        _session_field("evaluations_per_example", "evaluations per image", best="low"),
        _session_field("batch_size", "batch size"),
        Field("peak_memory_bytes", "peak memory, MiB", write=bytes_as_mib, best="low", short="MiB"),
        Field("rounds"),
        Field("device", "device", value=lambda row: row.session["device"], entry=ThroughputRow.write_device, text=True),
        *map(_session_field, ("device_name", "threads", "machine", "torch", "session")),
    ]
    caption = (
        "Training steps, timed alone: in each round every estimator ran once. Geometric mean over the rounds of the "
        "latest session; in brackets the 95 % t interval on the log scale. The relative time is paired by round, so "
        "that a slow phase of the machine cancels; above 1 is slower. Evaluations: decoder evaluations, where one is "
        "one latent sample of one image."
    )
    return build_table(
        "throughput",
        "Throughput",
        caption,
        fields,
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem", "machine"),
        short_caption="Training steps, timed alone; geometric means.",
    )


def _find_rows(analysis: Analysis) -> list[ThroughputRow]:
    frame = analysis.timings_by_machine
    machines = list(dict.fromkeys(frame["machine"]))
    rows = []
    every = [(problem, label) for problem in analysis.problems for label in order_by_rank(analysis, problem)]
    for (problem, estimator), machine in sorted(
        itertools.product(every, machines), key=lambda row: (analysis.problems.index(row[0][0]), machines.index(row[1]))
    ):
        here = (frame["problem"] == problem) & (frame["machine"] == machine) & (frame["estimator"] == estimator)
        timed = frame[here]
        if timed.empty:
            continue
        session = timed.iloc[0].to_dict()
        rows.append(
            ThroughputRow(
                problem=problem,
                estimator=estimator,
                examples_per_second=log_t_interval(timed["batch_size"] / timed["seconds_per_step"]),
                milliseconds_per_step=log_t_interval(1e3 * timed["seconds_per_step"]),
                seconds_ratio=ABSENT if estimator == str(session["reference"]) else relative_time(timed),
                peak_memory_bytes=float(timed["peak_memory_bytes"].astype(float).max()),
                rounds=len(timed),
                session=session,
            )
        )
    return rows


def _session_field(name: str, title: str = "", best: str = "") -> Field[ThroughputRow]:
    """Return the field of something that all rounds of a session have in common."""
    return Field(name, title, value=lambda row: row.session[name], write=format_count, best=best)
