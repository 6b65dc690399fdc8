"""What a gradient costs: evaluations of f, and seconds that were measured interleaved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estbench.report.analysis import frames
from estbench.stats import log_t_interval

if TYPE_CHECKING:
    from estbench.store import Results


def costs(results: Results, problem: str) -> tuple[dict[str, float], dict[str, float]]:
    """Evaluations per example, and milliseconds per step, of each estimator that has them."""
    planned = frames.done(frames.cells(results))
    planned = planned[(planned["problem"] == problem) & (planned["examples"] > 0)]
    evaluations = (planned["evaluations"] / planned["examples"]).groupby(planned["estimator"]).mean()
    timed = frames.timings(results)
    timed = timed[timed["problem"] == problem]
    if len(set(timed["machine"])) > 1:  # times of different machines are not comparable
        timed = timed.iloc[:0]
    milliseconds = {
        str(label): 1e3 * log_t_interval(rows["seconds_per_step"]).value for label, rows in timed.groupby("estimator")
    }
    return {str(label): float(value) for label, value in evaluations.items() if value > 0}, milliseconds
