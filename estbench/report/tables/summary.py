"""The summary: final bounds of every estimator, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import done, values_by_seed
from estbench.report.analysis.paired import ABSENT, pair_values
from estbench.report.analysis.wording import NOTHING, fixed, format_difference
from estbench.report.tables.base import Entry, Table, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field, with_interval
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, paired_difference, t_interval
from estbench.store import Status

FINAL = ("num_samples", "examples")
T_INTERVAL = "In brackets: the 95 % t interval over n seeds; below three seeds there is none."


@dataclass(frozen=True)
class SummaryRow:
    """The finished cells of one estimator on one problem."""

    problem: str
    estimator: str
    planned: int
    done: int
    diverged: int
    bounds: dict[str, Interval]  # final test bounds by metric, in nats per example
    elbo_difference: Interval  # to the reference, paired by seed
    training_seconds: Interval  # absent if the cells were timed in several places
    places: int  # where the cells were timed
    evaluations: Interval
    reference: str
    wins: bool  # shown to be better than every other estimator


@register_table(section="answer", order=40, folded="All bounds, differences to the reference, seconds")
def summary(analysis: Analysis) -> Table:
    """Return one row per problem and estimator: final test bounds, the paired difference, time and cost."""
    reference, bounds = analysis.reference, _find_bounds(analysis)
    fields: list[Field[SummaryRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("planned"),
        Field("done", "cells done", entry=lambda row: f"{row.done} of {row.planned}"),
        Field("diverged", "diverged"),
        *(_bound_field(metric, title) for metric, title in bounds.items()),
        Field(
            "elbo_difference",
            f"Δ test ELBO to {reference}" if reference else "Δ test ELBO",
            entry=lambda row: (
                "reference"
                if row.estimator == row.reference
                else format_interval(row.elbo_difference, format_difference)
            ),
        ),
        Field(
            "training_seconds",
            "training seconds",
            entry=lambda row: (
                Entry(NOTHING, "timed in several places")
                if row.places > 1
                else format_interval(row.training_seconds, fixed)
            ),
        ),
        Field("reference"),
        Field(
            "evaluations",
            "evaluations",
            value=lambda row: row.evaluations.value,
            entry=lambda row: Entry(
                f"{row.evaluations.value:,.0f}" if row.evaluations.n else NOTHING, f"n = {row.evaluations.n}"
            ),
        ),
    ]
    compared = (
        f"The difference is to {reference}, paired over the seeds that both finished."
        if reference
        else "The reference estimator is not in this experiment, so there is no difference to show."
    )
    caption = (
        "Mean nats per example at the last step over the cells that are done; higher is better, and diverged cells are "
        f"counted but not averaged in. {compared} {T_INTERVAL} Bold: shown to be better than every other "
        "estimator (Holm's correction for all pairs). Evaluations are calls of f for one sample of one example, per "
        "cell."
    )
    return build_table(
        "summary",
        "Final test bounds",
        caption,
        fields,
        _find_rows(analysis, list(bounds)),
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _find_bounds(analysis: Analysis) -> dict[str, str]:
    """Return the titles of the test bounds that were recorded, by metric."""
    samples = analysis.setting("evaluation", "num_samples", default="K")
    bounds = {"elbo": "test ELBO", "iwae": f"test IWAE-{samples}"}
    if len(done(analysis.final_values("iwae_final"))):
        final, images = (analysis.setting("evaluation", f"final_{of}", default="?") for of in FINAL)
        bounds["iwae_final"] = f"test IWAE-{final} on {images} images"
    return bounds


def _find_rows(analysis: Analysis, metrics: list[str]) -> list[SummaryRow]:
    reference = analysis.reference
    finals = {metric: done(analysis.final_values(metric)) for metric in metrics}
    winners = {problem: rankings[0].winner for problem, rankings in analysis.rankings.items()}
    rows = []
    for (problem, estimator), group in analysis.cells.groupby(["problem", "estimator"], sort=False):
        finished = done(group)
        values = {metric: values_by_seed(finals[metric], problem=problem, estimator=estimator) for metric in metrics}
        difference = ABSENT
        if reference is not None and estimator != reference:
            baseline = values_by_seed(finals["elbo"], problem=problem, estimator=reference)
            difference = paired_difference(*pair_values(values["elbo"], baseline))
        places = len(analysis.places(finished["folder"]))
        rows.append(
            SummaryRow(
                problem=str(problem),
                estimator=str(estimator),
                planned=len(group),
                done=len(finished),
                diverged=int((group["status"] == Status.DIVERGED).sum()),
                bounds={metric: t_interval(of_metric) for metric, of_metric in values.items()},
                elbo_difference=difference,
                training_seconds=ABSENT if places > 1 else t_interval(finished["training_seconds"].dropna()),
                places=places,
                evaluations=t_interval(finished["evaluations"]),
                reference=reference or "",
                wins=estimator == winners.get(str(problem)),
            )
        )
    return rows


def _bound_field(metric: str, title: str) -> Field[SummaryRow]:
    """Return the field of one bound; the ELBO of the winner is bold."""
    write = with_interval(fixed)
    return Field(
        f"test_{metric}",
        title,
        value=lambda row: row.bounds[metric],
        entry=lambda row: replace(write(row.bounds[metric]), best=metric == "elbo" and row.wins),
    )
