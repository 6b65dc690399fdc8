"""The parts of the final ELBO: reconstruction, KL, and the latents that carry information."""

from __future__ import annotations

from dataclasses import dataclass

from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import done
from estbench.report.analysis.wording import fixed
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field, with_interval
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, t_interval

METRICS = ("elbo", "reconstruction", "kl", "active_units")


@dataclass(frozen=True)
class BoundParts:
    """The means over finished runs of one estimator on one problem, on the test split at the last step."""

    problem: str
    estimator: str
    elbo: Interval
    reconstruction: Interval
    kl: Interval
    active_units: Interval


@register_table(section="convergence")
def bound_parts(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, for problems that have a KL."""
    fields: list[Field[BoundParts]] = [
        ESTIMATOR,
        problem_field(analysis),
        Field("elbo", "test ELBO", write=with_interval(fixed), best="high", short="ELBO", keep=True),
        Field("reconstruction", "reconstruction", write=with_interval(fixed), best="high", short="rec.", keep=True),
        Field("kl", "KL", write=with_interval(fixed), best="low", short="KL", keep=True),
        Field("active_units", "active units", write=_write_units, best="high", short="active", keep=True),
    ]
    caption = (
        "Nats per example on the test split at the end of training: ELBO = reconstruction - KL. A unit is active if "
        "the variance of its posterior mean over the images is above 0.01. In brackets: the 95 % t interval over seeds."
    )
    return build_table(
        "bound_parts",
        "The parts of the final ELBO",
        caption,
        fields,
        _find_rows(analysis),
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _write_units(units: Interval) -> Entry:
    """Return the entry of a mean number of latents."""
    return format_interval(units, lambda value: fixed(value, 1))


def _find_rows(analysis: Analysis) -> list[BoundParts]:
    finals = {metric: done(analysis.final_values(metric)) for metric in METRICS}
    rows = []
    for board in analysis.leaderboards:
        here = {metric: frame[frame["problem"] == board.problem] for metric, frame in finals.items()}
        if here["kl"].empty or (here["kl"]["value"] == 0).all():  # a problem without a KL
            continue
        by_label = {metric: dict(iter(frame.groupby("estimator", sort=False))) for metric, frame in here.items()}
        for entrant in board.entrants:
            parts = {
                metric: t_interval(of_label.get(entrant.estimator, here[metric].iloc[:0])["value"])
                for metric, of_label in by_label.items()
            }
            if parts["kl"].n:
                rows.append(BoundParts(board.problem, entrant.estimator, **parts))
    return rows
