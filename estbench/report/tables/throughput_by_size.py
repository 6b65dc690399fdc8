"""The training speed of each estimator at several sizes of minibatches, eager and compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from estbench.experiment.spec import EAGER
from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import SIZE
from estbench.report.analysis.launches import Growth
from estbench.report.analysis.paired import ABSENT, relative_time
from estbench.report.analysis.wording import (
    NOTHING,
    bytes_as_mib,
    count_noun,
    format_count,
    format_percent,
    format_rate,
    significant,
)
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field, with_interval
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, log_t_interval


@dataclass(frozen=True)
class SizeRow:
    """The steps of one estimator at one size of minibatches, in one mode."""

    problem: str
    estimator: str
    batch_size: int
    mode: str
    examples_per_second: Interval
    milliseconds_per_step: Interval
    seconds_ratio: Interval  # to the reference in the same mode, paired by round
    eager_ratio: Interval  # to the eager step, paired by round
    growth: Growth | None
    peak_memory_bytes: float
    compile_seconds: float
    graph_breaks: str
    reference: str

    @property
    def fixed_share(self) -> float:
        """The part of the time that does not grow with the size."""
        return math.nan if self.growth is None else self.growth.time.fixed_share(self.batch_size)

    @property
    def knee(self) -> Interval:
        """The size at which half of the time is fixed, over rounds."""
        return ABSENT if self.growth is None else self.growth.knee

    def write_knee(self) -> Entry:
        """Return the knee, with its interval if it is among the sizes that were timed."""
        if self.growth is None:
            return Entry(NOTHING)
        text = self.growth.write_knee()
        ends = text[0].isdigit() and not math.isnan(self.knee.low)
        note = f"[{format_rate(self.knee.low)}, {format_rate(self.knee.high)}]" if ends else ""
        return Entry(text, note, key=self.growth.time.knee)

    def write_ratio(self) -> Entry:
        """Return the entry of the ratio to the reference."""
        if self.estimator == self.reference and self.seconds_ratio.n == 0:
            return Entry("reference" if self.examples_per_second.n else NOTHING, key=1)
        return format_interval(self.seconds_ratio, significant, "round")

    def write_graph(self) -> Entry:
        """Return whether the compiled step is one graph, and if it is none, why."""
        if self.mode == EAGER:
            return Entry(NOTHING)
        if not self.graph_breaks:
            return Entry("one")
        if not self.examples_per_second.n:
            return Entry("none", self.graph_breaks)
        return Entry(count_noun(1 + self.graph_breaks.count("; "), "reason") + " to break", self.graph_breaks)


@register_table(section="throughput", order=25)
def throughput_by_size(analysis: Analysis) -> Table:
    """Return one row per problem, estimator, size and mode; none if one size was timed in one mode."""
    fields: list[Field[SizeRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("batch_size", "batch size", write=format_count, short="batch size"),
        Field("mode", "mode", text=True, short="mode"),
        Field(
            "examples_per_second",
            "examples per second",
            write=with_interval(format_rate, "round"),
            best="high",
            short="examples per second",
        ),
        Field("milliseconds_per_step", "ms per step", write=with_interval(significant, "round"), best="low"),
        Field("seconds_ratio", "relative time", entry=SizeRow.write_ratio, best="low", short="relative time"),
        Field(
            "eager_ratio",
            "time relative to eager",
            write=with_interval(significant, "round"),
            best="low",
            short="to eager",
        ),
        Field("fixed_share", "fixed part", write=format_percent, best="low", short="fixed part"),
        Field("knee", "knee, examples", entry=SizeRow.write_knee, best="low"),
        Field("peak_memory_bytes", "peak memory, MiB", write=bytes_as_mib, best="low", short="MiB"),
        Field("compile_seconds", "compile, seconds", write=significant, best="low"),
        Field("graph_breaks", "graph", entry=SizeRow.write_graph, text=True),
        Field("reference"),
    ]
    caption = (
        "Training steps, timed alone at several sizes of minibatches or in several modes; geometric means over rounds, "
        "in brackets the 95 % t interval on the log scale. Relative times are paired by round: to the reference in the "
        "same mode, and of a compiled step to the eager one. Seconds per step are fitted as fixed + growing x size: "
        "the fixed part is that of launching operations, and the knee is the size at which both parts are equal. A "
        "compiled step is the same step under torch.compile, with its own noise; compiling takes time once."
    )
    return build_table(
        "throughput_by_size",
        "Throughput by size of minibatch and by mode",
        caption,
        fields,
        _find_rows(analysis),
        csv_first=("problem", "estimator", "batch_size", "mode"),
        blocks=("problem",),
        short_caption="Training steps, timed alone; geometric means.",
    )


def _find_rows(analysis: Analysis) -> list[SizeRow]:
    timed = analysis.timings_by_size
    if timed.empty:
        return []
    growths = {(growth.problem, growth.estimator, growth.mode): growth for growth in analysis.growths}
    failed = analysis.results.not_timed
    failed = failed[failed["graph_breaks"] != ""].drop_duplicates(["problem", "estimator", *SIZE], keep="last")
    rows = []
    for problem in analysis.problems:
        for estimator in order_by_rank(analysis, problem):
            for frame in (timed, failed):
                here = frame[(frame["problem"] == problem) & (frame["estimator"] == estimator)]
                for _, rounds in here.groupby(SIZE):
                    mode = str(rounds["mode"].iloc[0])
                    growth = growths.get((problem, estimator, mode)) if frame is timed else None
                    rows.append(_row(rounds, mode, growth))
    return rows


def _row(rounds: pd.DataFrame, mode: str, growth: Growth | None) -> SizeRow:
    first: dict[Any, Any] = rounds.iloc[0].to_dict()
    size = int(first["batch_size"])
    failed = pd.isna(first["seconds"])
    return SizeRow(
        problem=first["problem"],
        estimator=first["estimator"],
        batch_size=size,
        mode=mode,
        examples_per_second=ABSENT if failed else log_t_interval(size / rounds["seconds_per_step"]),
        milliseconds_per_step=ABSENT if failed else log_t_interval(1e3 * rounds["seconds_per_step"]),
        seconds_ratio=ABSENT if failed or first["estimator"] == first["reference"] else relative_time(rounds),
        eager_ratio=ABSENT if failed or mode == EAGER else relative_time(rounds, "eager_seconds_per_step"),
        growth=growth,
        peak_memory_bytes=float(rounds["peak_memory_bytes"].astype(float).max()),
        compile_seconds=float(rounds["compile_seconds"].astype(float).max()),
        graph_breaks=str(first["graph_breaks"]),
        reference=str(first["reference"]),
    )
