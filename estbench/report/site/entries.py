"""One experiment of the site, and its numbers, from the records of all folders and archives that hold a part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from estbench.options import shortened
from estbench.report.analysis.answer import write_answer
from estbench.report.analysis.leaderboard import Entrant, Leaderboard
from estbench.report.analysis.origins import Origin, name_sources
from estbench.report.analysis.wording import count_noun, describe_common_problem, short_problems
from estbench.report.site.equal import EqualRanks, from_rankings
from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis

# Real records have less; a damaged one could have megabytes.
LONGEST_TEXT, MOST_TEXTS = 1000, 20
DIGITS = 12
DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Contents(NamedTuple):
    """All that the site needs of one experiment, whether its records are there or only a report.

    Attributes
    ----------
    planned
        The experiment, the keys of its cells, and the cards of its problems.
    environments
        Each environment with the cells that ran in it.
    moments
        When runs ended or were timed; only the last one counts.
    cards, equal
        By problem: its card (empty if unknown), and the ranks at equal cost.
    certificates, summaries
        By estimator: the status of its certificate, and the line that says what it is.
    sources, origins
        The folders and archives of the runs by problem and estimator, and a line about each of them.
    """

    planned: dict[str, Any]
    environments: list[dict[str, Any]]
    boards: list[Leaderboard]
    moments: list[str]
    cards: dict[str, str]
    equal: dict[str, EqualRanks]
    certificates: dict[str, str]
    summaries: dict[str, str]
    sources: dict[tuple[str, str], list[str]]
    origins: list[str]


class Entry(NamedTuple):
    """One experiment, as the site shows it.

    Attributes
    ----------
    places
        The paths of its folders and archives below what was named, with /.
    answers
        The computed sentences: who is best, one for each problem.
    texts
        The ``answer`` of the experiment's own file.
    ended
        How many runs collapsed or have no bound, in words.
    page
        The address of its report in the site; empty if there is none.
    names, common
        Names of its problems by label: of several, what they differ in; and a sentence with what they have in common.
    """

    places: list[str]
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
    contents: Contents


def read_records(analysis: Analysis) -> Contents:
    """Return the contents of an experiment whose records are there."""
    whole = analysis.whole
    results = whole.results
    ended = strings(record.get("finished") for record in results.records.values())
    cells = results.plan["cells"]
    only = [*name_sources(whole).values()][:1]
    pairs = {(cell["problem"]["label"], cell["estimator"]["label"]) for cell in cells}
    return Contents(
        planned=whole.planned,
        environments=whole.distinct_environments,
        boards=analysis.leaderboards,
        moments=ended or strings(results.throughput["session"].unique()),
        cards={label: str(card) for label, card in whole.planned["cards"].items()},
        equal={problem: from_rankings(rankings) for problem, rankings in analysis.rankings.items()},
        certificates={label: analysis.certificate(label) for label in analysis.estimators},
        summaries={label: text(analysis.facts(label).get("summary")) for label in analysis.estimators},
        sources={pair: analysis.sources.get(pair, only) for pair in pairs},
        origins=[_describe_origin(origin) for origin in analysis.origins],
    )


def make_entry(contents: Contents, places: list[str], page: str) -> Entry:
    """Return what the site shows of an experiment.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError
        If the contents are not those that estbench writes.
    """
    experiment = dict(contents.planned["experiment"])
    labels = [board.problem for board in contents.boards]
    several = len(labels) > 1
    names = short_problems(labels) if several else {label: label for label in labels}
    done, planned = sum(len(each["cells"]) for each in contents.environments), len(contents.planned["cells"])
    return Entry(
        places=[visible(place) for place in places],
        name=text(experiment.get("name")) or visible(places[0]),
        question=text(experiment.get("question")),
        answers=[
            visible(write_answer(board, names[board.problem] if several else ""))
            for board in contents.boards[:MOST_TEXTS]
        ],
        texts=_texts(experiment.get("answer")),
        ended=_describe_ends(contents.boards, names),
        runs=count_noun(done, "run") if done == planned else f"{done:,} of {count_noun(planned, 'run')}",
        date=max((day[0] for each in contents.moments if (day := DAY.match(each))), default=""),
        commit=_describe_commits([each["environment"] for each in contents.environments]),
        page=page,
        boards=contents.boards,
        names=names,
        common=visible(describe_common_problem(labels)),
        contents=contents,
    )


def count_runs(entrant: Entrant) -> int:
    """Return the number of planned runs; one that collapsed has a bound, and counts once."""
    return entrant.bound.n + sum(count for name, count in entrant.ended.items() if name != "collapsed")


def describe_machine(environment: Mapping[str, Any]) -> str:
    """Return code, versions and machine in a few words."""
    commit = visible(str(environment.get("commit") or ""))[:DIGITS]
    dirty = " with changes that are not committed" if environment.get("uncommitted") is True else ""
    known = [
        f"commit {commit}{dirty}" if commit else "unknown commit",
        *(f"{name} {environment[name]}" for name in ("estbench", "torch", "machine") if environment.get(name)),
        str(environment.get("device_name") or ""),
    ]
    return text(", ".join(filter(None, known)))


def _describe_origin(origin: Origin) -> str:
    digest = f" (SHA-256 {origin.digest[:DIGITS]})" if origin.digest else ""
    passed = sum(words == "passed" for words in origin.certificates.values())
    certified = f"{passed} of {count_noun(len(origin.certificates), 'certificate')} passed"
    made = f"{count_noun(origin.runs, 'run')}; {describe_machine(origin.environment)}"
    return f"{origin.source}{digest}: {made}; {certified}"


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


def strings(values: Iterable[Any]) -> list[str]:
    """Return the values that are texts."""
    return [value for value in values if isinstance(value, str) and value]


def text(value: Any) -> str:
    """Return a text of a record, made visible and not too long; empty for anything else."""
    return shortened(visible(value), LONGEST_TEXT) if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [shown for each in values[:MOST_TEXTS] if (shown := text(each))]
