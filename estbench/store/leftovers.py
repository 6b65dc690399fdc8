"""What killed runs have left in a results folder, and what belongs to no plan: all that may be removed from it.

A finished cell is never among it, be it in the plan or of an earlier protocol; nor is what a run could go on from; nor
anything that was changed in the last ten minutes, for a run may be at work on it; nor any file that is not estbench's.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from estbench.store.files import DamagedError
from estbench.store.folder import ResultsFolder
from estbench.store.status import Status

IN_USE_SECONDS = 600
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
CELL = re.compile(r"[a-z0-9_][a-z0-9._-]*-s\d+-[0-9a-f]{8}")
WORKSPACE = re.compile(rf"\.({CELL.pattern})\.partial")
REPLACED = re.compile(rf"\.({CELL.pattern})\.replaced")
ATTEMPTS = re.compile(rf"\.({CELL.pattern})\.attempts")


class Leftover(NamedTuple):
    """A file or folder that may go."""

    path: Path
    why: str
    size: int


def leftovers(folder: ResultsFolder) -> list[Leftover]:
    """What may be removed; raise ``EstbenchError`` where the plan cannot be read."""
    planned = {cell["folder"] for cell in folder.read_plan()["cells"]}
    planned |= {folder.place(name).name for name in planned}
    found = [*_temporary(folder), *_cells(folder, planned)]
    newest = time.time() - IN_USE_SECONDS
    return [Leftover(path, why, _size(path)) for path, why in found if _changed(path) < newest]


def remove(leftover: Leftover) -> None:
    """Remove a file or a folder, whole."""
    if leftover.path.is_dir():
        shutil.rmtree(leftover.path)
    else:
        leftover.path.unlink(missing_ok=True)


def _temporary(folder: ResultsFolder) -> Iterator[tuple[Path, str]]:
    """Files that were being written; those inside a workspace go with it, or with the run that takes it up."""
    finished = [path for path in _real(folder.cells) if CELL.fullmatch(path.name)]
    report = [folder.report, folder.report / "tables", folder.report / "figures"]
    for place in (folder.path, folder.cells, *finished, *report):
        for path in _real(place):
            if path.is_file() and TEMPORARY.fullmatch(path.name):
                yield path, "was being written"


def _cells(folder: ResultsFolder, planned: set[str]) -> Iterator[tuple[Path, str]]:
    for path in _real(folder.cells):
        if match := ATTEMPTS.fullmatch(path.name):
            if match[1] not in planned or _is_final(folder, match[1]):
                yield path, "counts the tries of a cell that is finished or not planned"
        elif not path.is_dir():
            continue
        elif match := WORKSPACE.fullmatch(path.name):
            if match[1] not in planned:
                yield path, "was begun for a cell that is not planned"
            elif _is_final(folder, match[1]):
                yield path, "was begun for a cell that is finished"
        elif match := REPLACED.fullmatch(path.name):
            # Until the new record is in place, this is the only one.
            if (folder.cells / match[1]).exists():
                yield path, "was replaced by a newer record"
        elif CELL.fullmatch(path.name) and path.name not in planned and not _is_final(folder, path.name):
            yield path, "is not planned, and not finished"


def _is_final(folder: ResultsFolder, name: str) -> bool:
    try:
        record = folder.read_record(name)
    except DamagedError:
        return False
    return record is not None and Status(record["status"]).final


def _real(place: Path) -> list[Path]:
    """What is in a folder, without links; nothing where the folder is one itself."""
    if not place.is_dir() or place.is_symlink():
        return []
    return sorted(path for path in place.iterdir() if not path.is_symlink())


def _inside(path: Path) -> list[Path]:
    return [path, *path.rglob("*")] if path.is_dir() else [path]


def _changed(path: Path) -> float:
    return max(each.lstat().st_mtime for each in _inside(path))


def _size(path: Path) -> int:
    return sum(each.lstat().st_size for each in _inside(path) if each.is_file())
