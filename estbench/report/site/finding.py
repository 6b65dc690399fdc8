"""The experiments in folders and archives: what is below the paths that were named. Links are never followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.report.site.output import is_site
from estbench.store.archive import SUFFIX
from estbench.store.homes import is_archive
from estbench.store.pack import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterable

# A results folder lies at most so many folders below that which was named.
DEEPEST = 4
# With more folders than these it is no folder of results.
MOST_FOLDERS = 20_000
# The page of the reproduced claims, which `estbench reproduce` writes.
REPRODUCTIONS = "reproductions.html"


@dataclass(frozen=True)
class Found:
    """Folders with records, archives, and folders with a report only; those of reproductions; and what was left out."""

    experiments: list[GuardedPath] = field(default_factory=list)
    reproductions: list[GuardedPath] = field(default_factory=list)
    skipped: list[tuple[GuardedPath, str]] = field(default_factory=list)
    looked_at: list[GuardedPath] = field(default_factory=list)


def find_experiments(paths: Iterable[str | Path]) -> Found:
    """Look at archives, and at folders and those below them; not below a results folder, nor in hidden folders.

    Raises
    ------
    EstbenchError
        If a path does not exist, or has too many folders below it.
    """
    found = Found()
    for path in dict.fromkeys(map(Path, paths)):
        if is_archive(path):
            found.experiments.append(GuardedPath(path))
        elif path.is_dir():
            _look(GuardedPath(path), found)
        else:
            raise EstbenchError(f"there is no folder or archive '{path}'; name one that holds results")
    return found


def has_records(path: GuardedPath) -> bool:
    """Whether this is an archive, or a results folder with a plan of cells."""
    return not path.is_dir() or (path / "experiment.json").exists()


def has_tables(folder: GuardedPath) -> bool:
    """Whether there is a report in this folder."""
    return (folder / "report" / "experiment.json").exists()


def name_place(path: GuardedPath) -> str:
    """Return the path below what was named, with /; for that itself, its own name."""
    return "/".join(path.parts) or path.root.resolve().name


def _look(folder: GuardedPath, found: Found) -> None:
    found.looked_at.append(folder)
    if len(found.looked_at) > MOST_FOLDERS:
        raise EstbenchError(f"'{folder.root}' has more than {MOST_FOLDERS:,} folders; name one that only holds results")
    try:
        if is_site(folder):
            return
        if has_records(folder) or has_tables(folder):
            found.experiments.append(folder)
            return
        if (folder / REPRODUCTIONS).exists():
            found.reproductions.append(folder)
            return
        if (folder / PUBLISHED).exists():
            found.experiments.append(folder / PUBLISHED)
            return
        inner = [each for each in folder.iterdir() if not each.name.startswith(".")]
    except (EstbenchError, OSError) as error:
        found.skipped.append((folder, str(error)))
        return
    for each in inner:
        try:
            is_folder = each.is_dir()
        except (EstbenchError, OSError) as error:
            found.skipped.append((each, str(error)))
            continue
        if is_folder and len(each.parts) > DEEPEST:
            found.skipped.append((each, f"it lies more than {DEEPEST} folders deep; name a folder further inside"))
        elif is_folder:
            _look(each, found)
        elif each.suffix == SUFFIX:
            found.experiments.append(each)
