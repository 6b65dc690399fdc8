"""Where each estimator took part: one row for each of its variants, experiments and problems."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from estbench.report.analysis.leaderboard import Entrant
from estbench.report.analysis.wording import NOTHING, TIMES, fixed, significant
from estbench.report.site.entries import MOST_TEXTS, Entry, count_runs
from estbench.report.site.equal import CURRENCIES, EqualRank
from estbench.report.tables.entry import format_interval
from estbench.visible import visible


class Appearance(NamedTuple):
    """One variant of an estimator on one problem of an experiment; texts are those that the page shows.

    Attributes
    ----------
    label
        The estimator with its options.
    equal
        Its rank by currency, if it has one.
    """

    entry: Entry
    card: str
    problem: str
    label: str
    equal: dict[str, EqualRank]
    bound: str
    bound_note: str
    variance: str
    certificate: str
    ended: str
    sources: str

    def write_rank(self, currency: str) -> tuple[str, str]:
        """Return the rank at equal cost, and in small print how far it is behind the best."""
        place = self.equal.get(currency)
        if place is None:
            return NOTHING, ""
        behind = f"{fixed(place.gap, 2 if place.gap < 10 else 1)} nats behind{'*' if place.is_behind else ''}"
        return f"{place.rank} of {place.among}", "" if place.rank == 1 else behind


class EstimatorPage(NamedTuple):
    """All appearances of the variants of one estimator."""

    name: str
    address: str
    summary: str
    appearances: list[Appearance]

    @property
    def problems(self) -> int:
        """The number of problems of experiments that it took part in."""
        return len({(id(each.entry), each.problem) for each in self.appearances})

    @property
    def variants(self) -> int:
        """The number of its variants."""
        return len({each.label for each in self.appearances})

    @property
    def certificates(self) -> str:
        """The statuses of the certificates, each with the number of its variants in experiments."""
        counts = Counter(each.certificate for each in self.appearances)
        return (
            next(iter(counts)) if len(counts) == 1 else ", ".join(f"{text} ({n})" for text, n in counts.most_common())
        )

    def write_firsts(self, currency: str) -> str:
        """Return how often one of its variants was first at equal cost, among those that were ranked."""
        ranked = [each.equal[currency] for each in self.appearances if currency in each.equal]
        return f"{sum(place.rank == 1 for place in ranked)} of {len(ranked)}" if ranked else NOTHING


def find_pages(entries: Sequence[Entry], slugs: SlugBook) -> list[EstimatorPage]:
    """Return a page for each estimator by its name: first those on the most problems, then by name."""
    by_name: dict[str, list[Appearance]] = {}
    summaries: dict[str, str] = {}
    for entry in entries:
        for board in entry.boards:
            for entrant in board.entrants:
                name = entrant.estimator.partition("[")[0]
                summaries.setdefault(name, entry.contents.summaries.get(entrant.estimator, ""))
                by_name.setdefault(name, []).append(_find_appearance(entry, board.problem, board.trajectory, entrant))
    pages = [
        EstimatorPage(visible(name), f"estimators/{slugs.take(name)}.html", summaries[name], _in_order(by_name[name]))
        for name in sorted(by_name)
    ]
    return sorted(pages, key=lambda page: (-page.problems, page.name))


def _in_order(appearances: Iterable[Appearance]) -> list[Appearance]:
    return sorted(appearances, key=lambda each: (each.card == "", each.card))  # stable: else as the experiments are


def _find_appearance(entry: Entry, problem: str, trajectory: str, entrant: Entrant) -> Appearance:
    equal = entry.contents.equal.get(problem, {})
    bound = format_interval(entrant.bound, lambda nats: fixed(nats, 1)) if entrant.bound.n else None
    ends = [f"{name} {count} of {count_runs(entrant)}" for name, count in entrant.ended.items()]
    sources = entry.contents.sources.get((problem, entrant.estimator), [])
    more = f" and {len(sources) - MOST_TEXTS} more" if len(sources) > MOST_TEXTS else ""
    shared = trajectory == "shared" and entrant.variance.n and not math.isnan(entrant.variance.value)
    return Appearance(
        entry=entry,
        card=visible(entry.contents.cards.get(problem, "")),
        problem=visible(entry.names.get(problem, problem)),
        label=visible(entrant.estimator),
        equal={
            currency: equal[currency][entrant.estimator]
            for currency in CURRENCIES
            if entrant.estimator in equal.get(currency, {})
        },
        bound=bound.text if bound else NOTHING,
        bound_note=f"{bound.note}{'' if 'n =' in bound.note or not bound.n else f', n = {bound.n}'}" if bound else "",
        variance=f"{significant(entrant.variance.value)} {TIMES}" if shared else NOTHING,
        certificate=visible(entry.contents.certificates.get(entrant.estimator, "none")),
        ended=visible(", ".join([*ends, *(["biased"] if entrant.biased else [])])),
        sources=visible(", ".join(sources[:MOST_TEXTS]) + more),
    )


class SlugBook:
    """Names of files: readable, valid on every file system, and each given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Return a name that was not given yet, in the letters a to z, digits and hyphens.

        >>> book = SlugBook()
        >>> book.take("../Mine & yours"), book.take("mine-yours"), book.take("..")
        ('mine-yours', 'mine-yours-2', 'unnamed')
        """
        ascii_only = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name.lower())
        short = "-".join(filter(None, ascii_only.split("-")))[:60].strip("-") or "unnamed"
        slug, count = short, 1
        while slug in self._taken:
            count += 1
            slug = f"{short}-{count}"
        self._taken.add(slug)
        return slug
