"""The summary: final bounds of every estimator, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import done, values_by_seed
from estbench.report.analysis.paired import ABSENT, pair_values
from estbench.report.analysis.wording import NOTHING, fixed, format_difference
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import (
    ESTIMATOR,
    Field,
    build_table,
    order_by_rank,
    problem_field,
)
from estbench.report.tables.registry import register_table
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, log_t_interval, paired_difference, t_interval
from estbench.store import Status

FINAL = ("num_samples", "examples")


@dataclass(frozen=True)
class SummaryRow:
    """The finished runs of one estimator on one problem."""

    problem: str
    estimator: str
    planned: int
    done: int
    diverged: int
    bounds: dict[str, Interval]  # final test bounds by metric, in nats per example
    judged: str  # the metric of these by which the problem is judged
    difference: Interval  # in that bound to the reference, paired by seed
    training_seconds: Interval  # absent if the runs were timed in several places
    places: int  # where the runs were timed
    evaluations: Interval
    reference: str
    wins: bool  # shown to be better than every other estimator

    def say_count(self, entry: Entry) -> Entry:
        """Return an entry that says its n only if that is not the number of finished runs, which the row says."""
        return replace(entry, n=0) if entry.n == self.done else entry


@register_table(section="answer", order=40, folded="All bounds, differences to the reference, seconds")
def summary(analysis: Analysis) -> Table:
    """Return one row per problem and estimator: final test bounds, the paired difference, time and cost."""
    reference, bounds = analysis.reference, _find_bounds(analysis)
    judged = {analysis.metric(problem) for problem in analysis.problems}
    fields: list[Field[SummaryRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("planned"),
        Field("done", "runs done", entry=_write_done, best="high"),
        Field("diverged"),
        *(_bound_field(metric, title, judged=metric in judged) for metric, title in bounds.items()),
        Field(
            "difference",
            f"difference to {reference}" if reference else "difference",
            entry=lambda row: (
                Entry("reference", key=0)
                if row.estimator == row.reference
                else row.say_count(format_interval(row.difference, format_difference))
            ),
            best="high",
            short="difference",
        ),
        Field("difference_of", value=lambda row: row.judged),
        Field("training_seconds", "training seconds", entry=_write_seconds, best="low", short="seconds"),
        Field("reference"),
        Field("evaluations", value=lambda row: row.evaluations.value),
    ]
    names = " or ".join(dict.fromkeys(analysis.name_bound(problem) for problem in analysis.problems))
    compared = (
        f"The difference to {reference} is in the test {names}, paired by seed."
        if reference
        else "The reference estimator is not in this experiment, so there is no difference to it."
    )
    rows = _find_rows(analysis, list(bounds))
    few = " An interval needs 3 seeds." if any(row.done < FEWEST_FOR_AN_INTERVAL for row in rows) else ""
    caption = (
        "In nats per example, mean over the finished runs; higher is better. In brackets: the 95 % t "
        f"interval over the runs done; other intervals are in the CSV file.{few} Training seconds: the geometric mean, "
        f"with its interval on the log scale. {compared} Bold: significantly better than all others (p at most 0.05; "
        "Holm's correction for all pairs)."
    )
    return build_table(
        "summary",
        "Final test bounds",
        caption,
        fields,
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
        short_caption="Means in nats per example. Bold: significantly better than all others.",
    )


def _find_bounds(analysis: Analysis) -> dict[str, str]:
    """Return the titles of the test bounds that were recorded, by metric."""
    names = {analysis.name_bound(problem, "iwae") for problem in analysis.problems}
    bounds = {"elbo": "test ELBO", "iwae": f"test {names.pop() if len(names) == 1 else 'IWAE-K'}"}
    if len(done(analysis.final_values("iwae_final"))):
        final, images = (analysis.setting("evaluation", f"final_{of}", default="?") for of in FINAL)
        bounds["iwae_final"] = f"test IWAE-{final} on {images} images"
    return bounds


def _find_rows(analysis: Analysis, metrics: list[str]) -> list[SummaryRow]:
    finals = {metric: done(analysis.final_values(metric)) for metric in metrics}
    pairs = ["problem", "estimator"]
    of_pair = {metric: dict(iter(frame.groupby(pairs, sort=False))) for metric, frame in finals.items()}
    winners = {problem: rankings[0].winner for problem, rankings in analysis.rankings.items()}
    groups = dict(iter(analysis.cells.groupby(["problem", "estimator"], sort=False)))
    rows = []
    for problem in analysis.problems:
        for estimator in order_by_rank(analysis, problem):
            group = groups[problem, estimator]
            finished, judged = done(group), analysis.metric(problem)
            values = {
                metric: values_by_seed(known.get((problem, estimator), finals[metric].iloc[:0]))
                for metric, known in of_pair.items()
            }
            difference = ABSENT
            if analysis.reference not in {None, estimator}:
                baseline = values_by_seed(finals[judged], problem=problem, estimator=analysis.reference)
                difference = paired_difference(*pair_values(values[judged], baseline))
            places = len(analysis.places(finished["folder"]))
            rows.append(
                SummaryRow(
                    problem=problem,
                    estimator=estimator,
                    planned=len(group),
                    done=len(finished),
                    diverged=int((group["status"] == Status.DIVERGED).sum()),
                    bounds={metric: t_interval(of_metric) for metric, of_metric in values.items()},
                    judged=judged,
                    difference=difference,
                    training_seconds=ABSENT if places > 1 else log_t_interval(finished["training_seconds"].dropna()),
                    places=places,
                    evaluations=t_interval(finished["evaluations"]),
                    reference=analysis.reference or "",
                    wins=estimator == winners.get(problem),
                )
            )
    return rows


def _write_done(row: SummaryRow) -> Entry:
    return Entry(f"{row.done} of {row.planned}", f"{row.diverged} diverged" if row.diverged else "")


def _write_seconds(row: SummaryRow) -> Entry:
    if row.places > 1:
        return Entry(NOTHING, "timed in several places")
    return row.say_count(format_interval(row.training_seconds, fixed))


def _bound_field(metric: str, title: str, *, judged: bool) -> Field[SummaryRow]:
    """Return the field of one bound, with its interval if its problem is judged by it; there the winner is bold."""

    def write(row: SummaryRow) -> Entry:
        entry = row.say_count(format_interval(row.bounds[metric], fixed))
        return replace(entry, best=row.wins) if metric == row.judged else replace(entry, note="", short="")

    short = title.removeprefix("test ") if judged else ""
    return Field(f"test_{metric}", title, lambda row: row.bounds[metric], entry=write, best="high", short=short)
