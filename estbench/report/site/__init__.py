"""A site of static pages over many experiments: which estimator leads on which problem, and where it came from."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
from markupsafe import Markup

from estbench._version import __version__
from estbench.errors import FAULTS_OF_THE_MACHINE, EstbenchError
from estbench.limits import TABLE_BYTES
from estbench.options import shortened
from estbench.report.analysis.wording import count_noun
from estbench.report.page.render import part
from estbench.report.page.svg import inline_svg
from estbench.report.site.appearances import EstimatorPage, SlugBook, find_pages
from estbench.report.site.entries import LONGEST_TEXT, Entry
from estbench.report.site.equal import CURRENCIES
from estbench.report.site.finding import REPRODUCTIONS, find_experiments, name_place
from estbench.report.site.making import STRANGE, group_by_experiment, make_all, plan_tasks
from estbench.report.site.matrix import Matrix, build_matrix
from estbench.report.site.output import GENERATOR, replaced, write_marker
from estbench.report.site.profile import DISTANCES, TITLES, draw_profile, find_profile, list_shares
from estbench.store.files import encoded
from estbench.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estbench.guarded import GuardedPath

__all__ = ["Site", "build_site"]

PAGE = "index.html"
UNKNOWN_CARD = "Without a problem card"


class Site(NamedTuple):
    """The first page, the experiments of the site, and the paths left out, each with the reason."""

    page: Path
    entries: list[Entry]
    skipped: list[tuple[str, str]]


class Claims(NamedTuple):
    """Reproduced claims: the folder of their page, and the number of claims by outcome."""

    place: str
    outcomes: dict[str, int]


class Card(NamedTuple):
    """A problem card: the experiments that have their first problem of it, and those that have a further one."""

    card: str
    title: str
    entries: list[Entry]
    elsewhere: list[Entry]
    matrix: Matrix


def build_site(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    name: str = "Results",
    figures: bool = True,
    trust_pages: Sequence[str | Path] = (),
    jobs: int = 1,
    plugins: Sequence[str] = (),
) -> Site:
    """Write a site of static pages about every experiment in some folders and archives.

    It has a first page by problem card, the report of each experiment, and a page for each estimator. Folders and
    archives with records of one experiment (name, question, protocol) are merged. One that cannot be read, or that
    contradicts those before it, is left out, and the first page says why. The same records give the same bytes.

    Parameters
    ----------
    paths
        Archives, results folders, or folders of these.
    out
        The folder of the site. A site that is there is replaced, as a whole; anything else is refused.
    name
        What the first page is called.
    figures
        Whether reports have figures, which take most of the time and room.
    trust_pages
        Those of ``paths`` whose reports without records have their page published as it is. It may hold anything.
    jobs
        So many experiments at a time, in processes of their own, which load the ``plugins``.
    plugins
        Files with tables and figures for the reports, which this process has loaded.

    Raises
    ------
    EstbenchError
        If a path does not exist, if there is nothing to show, or if there is something else than a site at ``out``.

    Examples
    --------
    >>> import tempfile
    >>> import estbench
    >>> from estbench.report.site import build_site
    >>> experiment = {
    ...     "name": "small",
    ...     "estimators": ["reparam"],
    ...     "problems": ["vae[dataset=digits,hidden=[4],latent_size=2]"],
    ...     "training": {"steps": 2},
    ...     "probe": {"replicates": 0},
    ...     "throughput": {"rounds": 0},
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = estbench.run(experiment, out=f"{folder}/small")
    ...     site = build_site([f"{folder}/small"], f"{folder}/site", figures=False)
    >>> [entry.runs for entry in site.entries], site.page.name
    (['1 run'], 'index.html')
    """
    found = find_experiments(paths)
    try:
        with replaced(out) as folder:
            groups, unread = group_by_experiment(found.experiments)
            tasks = plan_tasks(groups, folder, figures=figures, trusted=trust_pages)
            made = list(make_all(tasks, jobs, plugins))
            entries = [each.entry for each in made if each.entry is not None]
            skipped = [*found.skipped, *unread, *(path for each in made for path in each.skipped)]
            claims = _read_claims(found.reproductions, skipped)
            if not entries and not claims and not skipped:
                raise EstbenchError("there are no results in what was named; `estbench run` makes some")
            reasons = [_describe_skipped(path, reason) for path, reason in sorted(skipped)]
            _write_pages(folder, visible(name), entries, claims, reasons)
    except OSError as error:
        if error.errno not in FAULTS_OF_THE_MACHINE:
            raise
        raise EstbenchError(f"cannot write '{out}': {error.strerror or error}") from None
    return Site(Path(out) / PAGE, entries, reasons)


def _write_pages(
    folder: GuardedPath, name: str, entries: list[Entry], claims: list[Claims], skipped: list[tuple[str, str]]
) -> None:
    """Write everything but the reports of experiments, and at last the marker."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    shared = {"style": Markup(part("report.css")), "generator": GENERATOR, "version": __version__}  # noqa: S704
    pages = find_pages(entries, SlugBook())
    profile = find_profile(entries)
    figure = draw_profile(profile)
    first = environment.get_template("index.html.j2").render(
        **shared,
        name=name,
        counts=_count(entries, pages),
        pages=pages,
        page_of={row.label: page.address for page in pages for row in page.appearances},
        figure=figure,
        drawing=inline_svg(figure) if figure else "",
        shares=list_shares(profile),
        currencies=[{"key": currency, "title": TITLES[currency]} for currency in CURRENCIES],
        distances=DISTANCES,
        cards=_group_by_card(entries),
        claims=claims,
        skipped=skipped,
    )
    (folder / PAGE).write_bytes(encoded(first))
    template = environment.get_template("estimator.html.j2")
    for page in pages:
        counts = f"{count_noun(page.variants, 'variant')} on {count_noun(page.problems, 'problem')}"
        text = template.render(**shared, page=page, counts=counts)
        (folder / page.address).write_bytes(encoded(text))
    (folder / ".nojekyll").write_bytes(b"")
    listed = [{"name": each.name, "page": each.page, "from": each.contents.origins} for each in entries]
    write_marker(folder, {"estbench": __version__, "name": name, "experiments": listed})


def _count(entries: list[Entry], pages: list[EstimatorPage]) -> str:
    problems = sum(len(entry.boards) for entry in entries)
    counts = {"experiment": len(entries), "problem": problems, "estimator": len(pages)}
    return " · ".join(count_noun(count, noun) for noun, count in counts.items())


def _group_by_card(entries: list[Entry]) -> list[Card]:
    """Return the cards by name, at last those that are not known; an experiment stands once, with its first problem."""
    cards: dict[str, dict[int, Entry]] = {}
    first: dict[int, str] = {}
    for entry in entries:
        for card in [entry.contents.cards.get(board.problem, "") for board in entry.boards] or [""]:
            cards.setdefault(card, {})[id(entry)] = entry
            first.setdefault(id(entry), card)
    return [
        Card(
            visible(card),
            visible(card) or UNKNOWN_CARD,
            [entry for key, entry in members.items() if first[key] == card],
            [entry for key, entry in members.items() if first[key] != card],
            build_matrix(entries, card),
        )
        for card, members in sorted(cards.items(), key=lambda item: (item[0] == "", item[0]))
    ]


def _read_claims(folders: Sequence[GuardedPath], skipped: list[tuple[GuardedPath, str]]) -> list[Claims]:
    claims = []
    for folder in folders:
        try:
            claims.append(Claims(visible(name_place(folder)), _count_outcomes(folder)))
        except (EstbenchError, OSError, *STRANGE) as error:
            skipped.append((folder, str(error)))
    return claims


def _count_outcomes(folder: GuardedPath) -> dict[str, int]:
    """Return the number of claims by outcome; empty if the table does not say it."""
    table = folder / REPRODUCTIONS.replace(".html", ".csv")
    if not table.exists():
        return {}
    rows = csv.DictReader(io.StringIO(table.read_text(limit=TABLE_BYTES)))
    outcomes = {row["card"]: row["outcome_of_claim"] for row in rows if "outcome_of_claim" in row}
    return dict(Counter(visible(outcome)[:40] for outcome in outcomes.values()).most_common(10))


def _describe_skipped(path: GuardedPath, reason: str) -> tuple[str, str]:
    """Return a path below what was named, and the reason without the way to that."""
    short = visible(reason).replace(f"'{path.root}/", "'")
    return visible(name_place(path)), shortened(short, LONGEST_TEXT)
