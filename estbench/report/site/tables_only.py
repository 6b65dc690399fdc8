"""One experiment of the site, from the tables of its report: its records are not there."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from estbench.limits import TABLE_BYTES
from estbench.report.analysis.leaderboard import Entrant, Leaderboard
from estbench.report.analysis.wording import count_noun
from estbench.report.site.entries import MOST_TEXTS, Contents, describe_machine, strings, text
from estbench.report.site.equal import from_table
from estbench.report.site.finding import name_place
from estbench.stats import Claim, Interval
from estbench.store.files import read_any_json
from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.guarded import GuardedPath

MOST_ROWS = 20_000
# The ends of runs in the column "remarks" of ranking.csv: "collapsed in 4 of 5, biased".
ENDED = re.compile(r"(?P<name>[a-z ]+?) in (?P<count>\d{1,9}) of \d+")
BIASED = "biased"


def read_tables(folder: GuardedPath) -> Contents:
    """Read the report of an experiment.

    Raises
    ------
    EstbenchError
        If a file is damaged, too large, or no regular file.
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError
        If a file holds something else than estbench writes.
    """
    tables = folder / "report" / "tables"
    environments = list(read_any_json(folder / "report" / "environment.json"))
    ended = strings(each.get("finished") for each in environments)
    timed = [] if ended else strings(row["session"] for row in _read_csv(tables / "throughput.csv"))
    # Variances are of shared weights wherever these were measured: see the leaderboard.
    trajectory = "shared" if (tables / "gradient_variance_shared.csv").exists() else ""
    boards = list(_read_boards(_read_csv(tables / "ranking.csv"), trajectory))
    declared = {row["estimator"]: row for row in _read_csv(tables / "estimators.csv")}
    place = visible(name_place(folder))
    planned = dict(read_any_json(folder / "report" / "experiment.json"))
    cards = dict(planned.get("cards", {}))
    return Contents(
        planned=planned,
        environments=environments,
        boards=boards,
        moments=ended or timed,
        cards={board.problem: str(cards.get(board.problem, "")) for board in boards},
        equal=from_table(_read_csv(tables / "equal_cost.csv")),
        certificates={label: text(row.get("certificate")) for label, row in declared.items()},
        summaries={label: text(row.get("summary")) for label, row in declared.items()},
        sources={(board.problem, each.estimator): [place] for board in boards for each in board.entrants},
        origins=[_describe_environment(place, each) for each in environments[:MOST_TEXTS]],
    )


def _describe_environment(place: str, environment: Mapping[str, Any]) -> str:
    facts = environment["environment"]
    runs = count_noun(len(environment["cells"]), "run")
    return f"{place} (only its report): {runs}; {describe_machine(facts)}"


def _read_csv(path: GuardedPath) -> list[dict[str, str]]:
    """Return the rows of a table; none if the report does not have it."""
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(limit=TABLE_BYTES)))
    return list(itertools.islice(rows, MOST_ROWS))


def _read_boards(rows: Iterable[Mapping[str, str]], trajectory: str) -> Iterator[Leaderboard]:
    """Yield the leaderboards that a ranking was written from; what it does not hold is empty."""
    by_problem: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_problem.setdefault(row["problem"], []).append(row)
    for problem, own in by_problem.items():
        metric = "elbo" if own[0]["bound_name"] == "ELBO" else "iwae"
        entrants = [_read_entrant(row) for row in own]
        yield Leaderboard(problem=problem, metric=metric, trajectory=trajectory, start=math.nan, entrants=entrants)


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


def _number(text: str) -> float:
    return float(text) if text else math.nan
