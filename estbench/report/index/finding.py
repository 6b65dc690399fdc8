"""The folders below a folder that hold a report, or records for one. Links are never followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from estbench.guarded import GuardedPath

# A results folder lies at most so many folders below that of the index.
DEEPEST = 4
# With more folders than these it is no folder of results.
MOST_FOLDERS = 5000
# The page of the reproduced claims, which `estbench reproduce` writes.
REPRODUCTIONS = "reproductions.html"


@dataclass(frozen=True)
class Found:
    """The folders of experiments and of reproductions, by name, and the paths that were left out, with the reason."""

    experiments: list[GuardedPath] = field(default_factory=list)
    reproductions: list[GuardedPath] = field(default_factory=list)
    skipped: list[tuple[GuardedPath, str]] = field(default_factory=list)
    looked_at: list[GuardedPath] = field(default_factory=list)


def find_folders(root: GuardedPath) -> Found:
    """Look at a folder and those below it; nothing is looked for below a results folder, or in hidden folders.

    Raises
    ------
    EstbenchError
        If there are too many folders.
    """
    found = Found()
    _look(root, found)
    return found


def has_records(folder: GuardedPath) -> bool:
    """Whether this is a results folder with a plan of cells."""
    return (folder / "experiment.json").exists()


def has_tables(folder: GuardedPath) -> bool:
    """Whether there is a report in this folder."""
    return (folder / "report" / "experiment.json").exists()


def _look(folder: GuardedPath, found: Found) -> None:
    found.looked_at.append(folder)
    if len(found.looked_at) > MOST_FOLDERS:
        raise EstbenchError(f"'{folder.root}' has more than {MOST_FOLDERS:,} folders; name one that only holds results")
    try:
        if has_records(folder) or has_tables(folder):
            found.experiments.append(folder)
            return
        if (folder / REPRODUCTIONS).exists():
            found.reproductions.append(folder)
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
