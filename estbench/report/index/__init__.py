"""One page over many experiments: their questions and answers, and which estimator leads where."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
from markupsafe import Markup

from estbench.errors import FAULTS_OF_THE_MACHINE, EstbenchError
from estbench.guarded import GuardedPath
from estbench.limits import TABLE_BYTES
from estbench.options import shortened
from estbench.report.index.entries import LONGEST_TEXT, Entry, address, read_entry
from estbench.report.index.finding import REPRODUCTIONS, find_folders
from estbench.report.index.matrix import build_matrix
from estbench.report.page.render import part
from estbench.store.files import encoded
from estbench.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Index", "build_index"]

PAGE = "index.html"
# Stands in the page; a page without it is the user's own, and is never replaced.
GENERATOR = "estbench report --index"
# The errors of data that estbench did not write.
STRANGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error, RecursionError)


class Index(NamedTuple):
    """The page, and what is on it: the listed experiments, and the paths left out, each with the reason."""

    page: Path
    entries: list[Entry]
    skipped: list[tuple[str, str]]


class Reproductions(NamedTuple):
    """A page of reproduced claims: its address, and the number of claims by outcome."""

    address: str
    outcomes: dict[str, int]


def build_index(root: str | Path) -> Index:
    """Write ``index.html`` into a folder: a page about every experiment below it, and what leads where.

    An experiment is read from its records or, if only its report is there, from the tables of the report. A folder that
    cannot be read is left out, and the page says why. The same files give the same bytes.

    Parameters
    ----------
    root
        The folder of results folders, for example ``results``.

    Raises
    ------
    EstbenchError
        If there is no such folder, nothing to list in it, or an ``index.html`` in it that estbench did not write.

    Examples
    --------
    >>> import tempfile
    >>> import estbench
    >>> from estbench.report.index import build_index
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
    ...     index = build_index(folder)
    >>> [entry.runs for entry in index.entries], index.page.name
    (['1 run'], 'index.html')
    """
    if not Path(root).is_dir():
        raise EstbenchError(f"there is no folder '{root}'; name one that holds results folders")
    folder = GuardedPath(root)
    page = folder / PAGE
    _check_page(page)
    found = find_folders(folder)
    entries: list[Entry] = []
    pages: list[Reproductions] = []
    skipped = list(found.skipped)
    for each in found.experiments:
        try:
            entries.append(read_entry(each))
        except (EstbenchError, OSError) as error:
            skipped.append((each, str(error)))
        except STRANGE as error:
            skipped.append((each, f"its files hold something that estbench does not write ({type(error).__name__})"))
    for each in found.reproductions:
        try:
            pages.append(Reproductions(address(each / REPRODUCTIONS), _count_outcomes(each)))
        except (EstbenchError, OSError, *STRANGE) as error:
            skipped.append((each, str(error)))
    if not entries and not pages and not skipped:
        raise EstbenchError(f"there is no report below '{root}'; write one with `estbench run` or `estbench report`")
    reasons = [_describe_skipped(path, reason) for path, reason in sorted(skipped)]
    try:
        page.write_bytes(encoded(_render(visible(folder.root.resolve().name), entries, pages, reasons)))
    except OSError as error:
        if error.errno not in FAULTS_OF_THE_MACHINE:
            raise
        raise EstbenchError(f"cannot write '{page}': {error.strerror or error}") from None
    return Index(Path(page), entries, reasons)


def _render(
    name: str, entries: Sequence[Entry], pages: Sequence[Reproductions], skipped: Sequence[tuple[str, str]]
) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = Path(__file__).with_name("index.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        style=Markup(part("report.css")),  # noqa: S704  (our own file)
        generator=GENERATOR,
        name=name,
        entries=entries,
        matrix=build_matrix(entries),
        pages=pages,
        skipped=skipped,
    )


def _check_page(page: GuardedPath) -> None:
    """Refuse to replace a page that estbench did not write: of a web site, for example."""
    if page.exists() and GENERATOR not in page.read_text(errors="replace"):
        raise EstbenchError(f"'{page}' was not written by `{GENERATOR}`; move it away, or name another folder")


def _describe_skipped(path: GuardedPath, reason: str) -> tuple[str, str]:
    """Return a path below the folder of the index, and the reason without the way to that folder."""
    return visible("/".join(path.parts)), shortened(visible(reason).replace(f"'{path.root}/", "'"), LONGEST_TEXT)


def _count_outcomes(folder: GuardedPath) -> dict[str, int]:
    """Return the number of claims by outcome; empty if the table does not say it."""
    table = folder / "reproductions.csv"
    if not table.exists():
        return {}
    rows = csv.DictReader(io.StringIO(table.read_text(limit=TABLE_BYTES)))
    outcomes = {row["card"]: row["outcome_of_claim"] for row in rows if "outcome_of_claim" in row}
    return dict(Counter(visible(outcome)[:40] for outcome in outcomes.values()).most_common(10))
