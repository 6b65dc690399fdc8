"""Estimators against problems: the rank in each experiment, and how far behind the best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from estbench.report.analysis.leaderboard import Entrant, Leaderboard
from estbench.report.analysis.wording import NOTHING, TIMES, fixed
from estbench.report.site.entries import Entry, count_runs
from estbench.visible import visible

# Real results have some tens.
MOST_COLUMNS, MOST_ESTIMATORS = 100, 300
SIGNS = {"collapsed": "\N{DOWNWARDS ARROW}", "diverged": TIMES}


class Square(NamedTuple):
    """The outcome of one estimator on one problem."""

    text: str
    notes: list[str]  # one line each
    kind: str  # "decided" (ahead of all others), "best", "behind", or "out" of the ranking


class Column(NamedTuple):
    """A problem of an experiment, with its label and the name that is shown."""

    problem: str
    name: str
    bound: str
    squares: dict[str, Square]  # by estimator


class Group(NamedTuple):
    """An experiment with its columns."""

    entry: Entry
    columns: list[Column]


class Matrix(NamedTuple):
    """The estimators in rows and the problems in columns, grouped by experiment."""

    groups: list[Group]
    estimators: list[str]
    biased: set[str]
    left_out: int  # estimators and problems beyond the limits

    @property
    def columns(self) -> list[Column]:
        """The columns of all groups."""
        return [column for group in self.groups for column in group.columns]


def build_matrix(entries: Sequence[Entry], card: str) -> Matrix:
    """Return the matrix of the problems of one card: estimators in the most columns first, then by name."""
    boards = [
        (entry, board)
        for entry in entries
        for board in entry.boards
        if entry.contents.cards.get(board.problem, "") == card
    ]
    groups: list[Group] = []
    for entry, board in boards[:MOST_COLUMNS]:
        if not groups or groups[-1].entry is not entry:
            groups.append(Group(entry, []))
        groups[-1].columns.append(_make_column(entry, board))
    counts = Counter(label for group in groups for column in group.columns for label in column.squares)
    estimators = sorted(counts, key=lambda label: (-counts[label], label))
    biased = {entrant.estimator for _, board in boards for entrant in board.entrants if entrant.biased}
    left_out = max(0, len(boards) - MOST_COLUMNS) + max(0, len(estimators) - MOST_ESTIMATORS)
    return Matrix(groups, estimators[:MOST_ESTIMATORS], biased, left_out)


def _make_column(entry: Entry, board: Leaderboard) -> Column:
    squares = {entrant.estimator: _make_square(entrant, board) for entrant in board.entrants}
    return Column(
        board.problem,
        visible(entry.names.get(board.problem, board.problem)),
        "ELBO" if board.metric == "elbo" else "IWAE",
        squares,
    )


def _make_square(entrant: Entrant, board: Leaderboard) -> Square:
    ends = [
        f"{SIGNS.get(name, '')} {name} {count} of {count_runs(entrant)}".strip()
        for name, count in entrant.ended.items()
    ]
    if entrant.rank is None:
        return Square(NOTHING, ends or ["no final bound"], "out")
    if entrant.rank == 1:
        kind = "decided" if board.winner == entrant.estimator else "best"
        return Square("1", [f"{fixed(entrant.bound.value, 1)} nats", *ends], kind)
    gap = entrant.gap.interval.value
    star = "*" if entrant.is_behind else ""
    behind = "no common seed" if math.isnan(gap) else f"{fixed(gap, 2 if gap < 10 else 1)} behind{star}"
    return Square(str(entrant.rank), [behind, *ends], "behind")
