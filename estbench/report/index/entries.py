"""One experiment of the index: from its records or, if only its report is there, from the tables of that."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from estbench.limits import TABLE_BYTES
from estbench.options import shortened
from estbench.report.analysis import Analysis
from estbench.report.analysis.answer import write_answer
from estbench.report.analysis.leaderboard import Entrant, Leaderboard
from estbench.report.analysis.wording import count_noun, describe_common_problem, short_problems
from estbench.report.index.finding import has_records
from estbench.stats import Claim, Interval
from estbench.store import load
from estbench.store.files import read_any_json
from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.guarded import GuardedPath

# Real records have less; a damaged one could have megabytes.
LONGEST_TEXT, MOST_TEXTS, MOST_ROWS = 1000, 20, 20_000
DAY = re.compile(r"\d{4}-\d\d-\d\d")
# The ends of runs in the column "remarks" of ranking.csv: "collapsed in 4 of 5, biased".
ENDED = re.compile(r"(?P<name>[a-z ]+?) in (?P<count>\d{1,9}) of \d+")
BIASED = "biased"


class Source(NamedTuple):
    """All that the index needs of one experiment, in the form in which a report keeps it."""

    planned: dict[str, Any]  # the experiment, and the keys of its cells
    environments: list[dict[str, Any]]  # each with the cells that ran in it
    boards: list[Leaderboard]
    moments: list[str]  # when runs ended or were timed; only the last one counts


class Entry(NamedTuple):
    """One experiment, as the index shows it.

    Attributes
    ----------
    place
        Its path below the folder of the index, with /.
    answers
        The computed sentences: who is best, one for each problem.
    texts
        The ``answer`` of the experiment's own file.
    ended
        How many runs collapsed or have no bound, in words.
    page
        The address of its report, relative to the index; empty if there is none.
    names, common
        Names of its problems by label: of several, what they differ in; and a sentence with what they have in common.
    """

    place: str
    name: str
    question: str
    answers: list[str]
    texts: list[str]
    ended: list[str]
    runs: str
    date: str
    commit: str
    page: str
    boards: list[Leaderboard]
    names: dict[str, str]
    common: str


def read_entry(folder: GuardedPath) -> Entry:
    """Read one experiment.

    Raises
    ------
    EstbenchError
        If a file is damaged, too large, or no regular file.
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError
        If a file holds something else than estbench writes.
    """
    source = _read_records(folder) if has_records(folder) else _read_tables(folder)
    experiment = dict(source.planned["experiment"])
    labels = [board.problem for board in source.boards]
    several = len(labels) > 1
    names = short_problems(labels) if several else {label: label for label in labels}
    done, planned = sum(len(each["cells"]) for each in source.environments), len(source.planned["cells"])
    page = folder / "report" / "report.html"
    return Entry(
        place=visible("/".join(folder.parts)),
        name=_text(experiment.get("name")) or visible(folder.name),
        question=_text(experiment.get("question")),
        answers=[
            visible(write_answer(board, names[board.problem] if several else ""))
            for board in source.boards[:MOST_TEXTS]
        ],
        texts=_texts(experiment.get("answer")),
        ended=_describe_ends(source.boards, names),
        runs=count_noun(done, "run") if done == planned else f"{done:,} of {count_noun(planned, 'run')}",
        date=max((day[0] for each in source.moments if (day := DAY.match(each))), default=""),
        commit=_describe_commits([each["environment"] for each in source.environments]),
        page=address(page) if page.is_file() else "",
        boards=source.boards,
        names=names,
        common=visible(describe_common_problem(labels)),
    )


def address(path: GuardedPath) -> str:
    """Return the address of a file, relative to the root of its path; no name in it can be taken for a scheme."""
    return quote(os.fsencode("/".join(path.parts)), safe="/")


def _read_records(folder: GuardedPath) -> Source:
    results = load(folder)
    analysis = Analysis(results)
    ended = _strings(record.get("finished") for record in results.records.values())
    whole = analysis.whole
    timed = [] if ended else _strings(results.throughput["session"].unique())
    return Source(whole.planned, whole.distinct_environments, analysis.leaderboards, ended or timed)


def _read_tables(folder: GuardedPath) -> Source:
    report = folder / "report"
    environments = list(read_any_json(report / "environment.json"))
    ended = _strings(each.get("finished") for each in environments)
    timed = [] if ended else _strings(row["session"] for row in _read_csv(report / "tables" / "throughput.csv"))
    boards = list(_read_boards(_read_csv(report / "tables" / "ranking.csv")))
    return Source(dict(read_any_json(report / "experiment.json")), environments, boards, ended or timed)


def _read_csv(path: GuardedPath) -> list[dict[str, str]]:
    """Return the rows of a table; none if the report does not have it."""
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(limit=TABLE_BYTES)))
    return list(itertools.islice(rows, MOST_ROWS))


def _read_boards(rows: Iterable[Mapping[str, str]]) -> Iterator[Leaderboard]:
    """Yield the leaderboards that a ranking was written from; what it does not hold is empty."""
    by_problem: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_problem.setdefault(row["problem"], []).append(row)
    for problem, own in by_problem.items():
        metric = "elbo" if own[0]["bound_name"] == "ELBO" else "iwae"
        entrants = [_read_entrant(row) for row in own]
        yield Leaderboard(problem=problem, metric=metric, trajectory="", start=math.nan, entrants=entrants)


def _read_entrant(row: Mapping[str, str]) -> Entrant:
    def interval(name: str) -> Interval:
        value, low, high = (_number(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        return Interval(value, low, high, int(row[f"{name}_n"]))

    remarks = (row.get("remarks") or "").split(", ")
    ends = [match for each in remarks if (match := ENDED.fullmatch(each))]
    return Entrant(
        estimator=row["estimator"],
        rank=int(float(row["rank"])) if row["rank"] else None,
        bound=interval("bound"),
        finals={},
        gap=Claim(interval("gap"), _number(row["gap_p_holm"])),
        behind=int(row["behind"]),
        pairs=int(row["pairs"]),
        variance=interval("variance_ratio"),
        seconds=interval("seconds_ratio"),
        evaluations=_number(row["evaluations"]),
        biased=BIASED in remarks,
        ended={match["name"]: int(match["count"]) for match in ends},
    )


def count_runs(entrant: Entrant) -> int:
    """Return the number of planned runs; one that collapsed has a bound, and counts once."""
    return entrant.bound.n + sum(count for name, count in entrant.ended.items() if name != "collapsed")


def _describe_ends(boards: list[Leaderboard], names: Mapping[str, str]) -> list[str]:
    """Return for each way to end without a place in the ranking the estimators, with the number of their runs."""
    ends: dict[str, list[str]] = {}
    for board in boards:
        where = f" on {names[board.problem]}" if len(boards) > 1 else ""
        for entrant in board.entrants:
            for name, count in entrant.ended.items():
                ends.setdefault(name, []).append(f"{entrant.estimator}{where} ({count} of {count_runs(entrant)})")
    return [visible(f"{name.capitalize()}: {_cut(named)}.") for name, named in ends.items()]


def _describe_commits(environments: list[dict[str, Any]]) -> str:
    commits = sorted({visible(each["commit"])[:10] for each in environments if isinstance(each.get("commit"), str)})
    dirty = any(each.get("uncommitted") is True for each in environments)
    named = f"commit{'' if len(commits) == 1 else 's'} {_cut(commits)}" if commits else "unknown commit"
    return f"{named}, with changes that are not committed" if dirty else named


def _cut(texts: list[str]) -> str:
    more = f" and {len(texts) - MOST_TEXTS} more" if len(texts) > MOST_TEXTS else ""
    return ", ".join(texts[:MOST_TEXTS]) + more


def _strings(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str) and value]


def _text(value: Any) -> str:
    return shortened(visible(value), LONGEST_TEXT) if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for each in values[:MOST_TEXTS] if (text := _text(each))]


def _number(text: str) -> float:
    return float(text) if text else math.nan
