"""The answer as a table: the estimators by rank, with all that decides between them."""

from __future__ import annotations

import math
from typing import NamedTuple

from estbench.report.analysis import Analysis
from estbench.report.analysis.leaderboard import Entrant
from estbench.report.analysis.wording import NOTHING, TIMES, fixed, format_p, significant
from estbench.report.tables.base import Entry, Table
from estbench.report.tables.fields import Field, build_table, problem_field
from estbench.report.tables.registry import register_table
from estbench.stats import Interval


class RankingRow(NamedTuple):
    """An entrant of the leaderboard of one problem."""

    problem: str
    bound_name: str
    entrant: Entrant
    wins: bool

    @property
    def estimator(self) -> str:
        """The label of the estimator."""
        return self.entrant.estimator


@register_table(section="answer")
def ranking(analysis: Analysis) -> Table:
    """Return one row per problem and estimator, best first; those without a rank stand last."""
    boards = analysis.leaderboards
    rows = [
        RankingRow(board.problem, analysis.name_bound(board.problem), entrant, entrant.estimator == board.winner)
        for board in boards
        for entrant in board.entrants
    ]
    names = list(dict.fromkeys(row.bound_name for row in rows))
    bound = f"test {names[0]}" if len(names) == 1 else "test bound"
    shared = any(board.trajectory == "shared" for board in boards)
    fields: list[Field[RankingRow]] = [
        Field("rank", "rank", value=lambda row: row.entrant.rank or math.nan, entry=_write_rank),
        Field("estimator", "estimator", head=True),
        problem_field(analysis),
        Field("bound", f"{bound}, nats", value=lambda row: row.entrant.bound, entry=_write_bound),
        Field("bound_name"),
        Field("gap", "behind the best", value=lambda row: row.entrant.gap.interval, entry=_write_gap),
        Field("gap_p_holm", value=lambda row: row.entrant.gap.p),
        Field("behind", "seeds behind", value=lambda row: row.entrant.behind, entry=_write_seeds),
        Field("pairs", value=lambda row: row.entrant.pairs),
        Field(
            "variance_ratio",
            f"gradient variance, encoder{', same weights' if shared else ''}",
            value=lambda row: row.entrant.variance,
            entry=lambda row: _write_ratio(row.entrant.variance),
        ),
        Field(
            "seconds_ratio",
            "time per step",
            value=lambda row: row.entrant.seconds,
            entry=lambda row: _write_ratio(row.entrant.seconds),
        ),
        Field("evaluations", "evaluations", value=lambda row: row.entrant.evaluations, entry=_write_evaluations),
        Field("remarks", "remarks", value=_list_remarks, text=True),
    ]
    return build_table(
        "ranking",
        "Estimators by rank",
        _write_caption(analysis, rows, shared=shared),
        [field for field in fields if field.key != "remarks" or any(map(_list_remarks, rows))],
        rows,
        csv_first=("problem", "estimator"),
        blocks=("problem",),
    )


def _write_caption(analysis: Analysis, rows: list[RankingRow], *, shared: bool) -> str:
    counts = sorted({row.entrant.bound.n for row in rows if row.entrant.rank is not None})
    noun = "seed" if counts == [1] else "seeds"
    seeds = f"n = {' or '.join(map(str, counts))} {noun}" if counts else "no finished seeds"
    where = "at the same weights" if shared else "each at its own weights"
    relative = f"are relative to those of {analysis.reference}" if analysis.reference else "have no reference here"
    return (
        f"Mean final test bound in nats per example, higher is better ({seeds}; in brackets the 95 % t interval, from "
        "three seeds on). The gap to the best is paired by seed; a star: significantly behind the best, p at most 0.05 "
        "after Holm's correction for the comparisons with the best. An estimator with a run that ended below its own "
        "bound before training has collapsed and has no rank. Gradient variance (last common checkpoint, "
        f"{where}) and time per step {relative}; evaluations are decoder calls, one latent sample of "
        "one image, per image and step."
    )


def _write_rank(row: RankingRow) -> str:
    return NOTHING if row.entrant.rank is None else str(row.entrant.rank)


def _write_bound(row: RankingRow) -> Entry:
    bound = row.entrant.bound
    if not bound.n:
        return Entry(NOTHING)
    ends = "" if math.isnan(bound.low) else f"[{fixed(bound.low, 1)}, {fixed(bound.high, 1)}]"
    return Entry(fixed(bound.value, 1), ends, best=row.wins)


def _write_gap(row: RankingRow) -> Entry:
    gap = row.entrant.gap.interval
    if row.entrant.rank == 1:
        return Entry("best")
    if math.isnan(gap.value):
        return Entry(NOTHING)
    note = ""
    if row.entrant.rank is not None and not math.isnan(row.entrant.gap.p):
        note = "*" if row.entrant.is_behind else format_p(row.entrant.gap.p)
    return Entry(fixed(gap.value, 2 if gap.value < 10 else 1), note)


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
