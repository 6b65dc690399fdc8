"""The answer as a table: the estimators by rank, with all that decides between them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from estbench.report.analysis import Analysis
from estbench.report.analysis.leaderboard import Entrant
from estbench.report.analysis.wording import NOTHING, TIMES, fixed, format_p, significant
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry, add_star, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval

# Columns that are left out if they are empty.
OPTIONAL = {"remarks", "sources"}


class RankingRow(NamedTuple):
    """An entrant of the leaderboard of one problem."""

    problem: str
    bound_name: str
    entrant: Entrant
    wins: bool
    sources: list[str]  # the folders and archives of its runs, if there are several

    @property
    def estimator(self) -> str:
        """The label of the estimator."""
        return self.entrant.estimator


@register_table(section="answer")
def ranking(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, best first; those without a rank stand last."""
    boards = analysis.leaderboards
    rows = [
        RankingRow(
            board.problem,
            analysis.name_bound(board.problem),
            entrant,
            entrant.estimator == board.winner,
            analysis.sources.get((board.problem, entrant.estimator), []),
        )
        for board in boards
        for entrant in board.entrants
    ]
    names = list(dict.fromkeys(row.bound_name for row in rows))
    bound = f"test {names[0]}" if len(names) == 1 else "test bound"
    shared = any(board.trajectory == "shared" for board in boards)
    fields: list[Field[RankingRow]] = [
        Field("rank", "rank", value=lambda row: row.entrant.rank or math.nan, entry=_write_rank, keep=True, best="low"),
        ESTIMATOR,
        problem_field(analysis),
        Field(
            "bound",
            f"{bound}, nats",
            value=lambda row: row.entrant.bound,
            entry=_write_bound,
            best="high",
            short=names[0] if len(names) == 1 else "bound",
        ),
        Field("bound_name"),
        Field(
            "gap",
            "behind the best",
            value=lambda row: row.entrant.gap.interval,
            entry=_write_gap,
            best="low",
            short="behind",
        ),
        Field("gap_p_holm", value=lambda row: row.entrant.gap.p),
        Field("behind", "seeds behind", value=lambda row: row.entrant.behind, entry=_write_seeds, best="low"),
        Field("pairs", value=lambda row: row.entrant.pairs),
        Field(
            "variance_ratio",
            f"gradient variance, encoder{', same weights' if shared else ''}",
            value=lambda row: row.entrant.variance,
            entry=lambda row: _write_ratio(row.entrant.variance),
            best="low",
            short="gradient variance",
        ),
        Field(
            "seconds_ratio",
            "time per step",
            value=lambda row: row.entrant.seconds,
            entry=lambda row: _write_ratio(row.entrant.seconds),
            best="low",
            short="time per step",
        ),
        Field(
            "evaluations",
            "evaluations",
            value=lambda row: row.entrant.evaluations,
            entry=_write_evaluations,
            best="low",
        ),
        Field("remarks", "remarks", value=_list_remarks, text=True),
        Field("sources", "from", value=lambda row: ", ".join(row.sources), text=True),
    ]
    relative = f"Variance and time: relative to {analysis.reference}." if analysis.reference else ""
    return build_table(
        "ranking",
        "Estimators by rank",
        _write_caption(analysis, rows, shared=shared),
        [field for field in fields if field.key not in OPTIONAL or any(map(field.value_of, rows))],
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
        short_caption=f"Mean final test bound in nats. *: significantly behind the best. {relative}".rstrip(),
    )


def _write_caption(analysis: Analysis, rows: list[RankingRow], *, shared: bool) -> str:
    where = "all at the same weights" if shared else "each at the weights of its own training"
    relative = f"are relative to {analysis.reference}" if analysis.reference else "have no reference here"
    sentences = [
        (
            "Mean final test bound in nats; higher is better. In brackets: the 95 % t interval. Behind the best: the "
            "mean difference to the best, paired by seed."
        ),
        "*: significantly behind the best (p at most 0.05; Holm's correction for the comparisons with the best).",
        f"Gradient variance (last common checkpoint, {where}) and time per step {relative}.",
        *_say_places(rows, analysis),
        "Evaluations: decoder evaluations per image and step, where one is one latent sample of one image.",
    ]
    if any(row.entrant.ended.get("collapsed") for row in rows):
        sentences.append("Collapsed: a run ended below its own bound before training; the estimator has no rank then.")
    return " ".join(sentences)


def _say_places(rows: list[RankingRow], analysis: Analysis) -> list[str]:
    """Say why an estimator that was timed has no ratio: it was timed in another place than most."""
    timed = set(zip(analysis.timings["problem"], analysis.timings["estimator"], strict=True))
    left_out = [row for row in rows if not row.entrant.seconds.n and (row.problem, row.estimator) in timed]
    return ["Time is only of the machine that timed most estimators of a problem."] if left_out else []


def _write_rank(row: RankingRow) -> str:
    return NOTHING if row.entrant.rank is None else str(row.entrant.rank)


def _write_bound(row: RankingRow) -> Entry:
    if not row.entrant.bound.n:
        return Entry(NOTHING)
    return replace(format_interval(row.entrant.bound, lambda nats: fixed(nats, 1)), best=row.wins)


def _write_gap(row: RankingRow) -> Entry:
    gap, p = row.entrant.gap
    if row.entrant.rank == 1:
        return Entry("best", key=0)
    if math.isnan(gap.value):
        return Entry(NOTHING)
    digits = 2 if gap.value < 10 else 1
    short = format_interval(gap, lambda nats: fixed(nats, digits)).short
    entry = Entry(fixed(gap.value, digits), short=short)
    if row.entrant.rank is None or math.isnan(p):
        return entry
    return add_star(entry) if row.entrant.is_behind else replace(entry, note=format_p(p))


def _write_seeds(row: RankingRow) -> str:
    entrant = row.entrant
    return NOTHING if entrant.rank == 1 or not entrant.pairs else f"{entrant.behind} of {entrant.pairs}"


def _write_ratio(ratio: Interval) -> str:
    return f"{significant(ratio.value)} {TIMES}" if ratio.n else NOTHING


def _write_evaluations(row: RankingRow) -> str:
    return NOTHING if math.isnan(row.entrant.evaluations) else f"{row.entrant.evaluations:g}"


def _list_remarks(row: RankingRow) -> str:
    entrant = row.entrant
    total = entrant.bound.n + sum(count for name, count in entrant.ended.items() if name != "collapsed")
    ended = [f"{name} in {count} of {total}" for name, count in entrant.ended.items()]
    return ", ".join([*ended, *(["biased"] if entrant.biased else [])])
