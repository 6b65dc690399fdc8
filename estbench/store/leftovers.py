"""What killed runs have left in a results folder, and what belongs to no plan: all that may be removed from it.

A finished cell is never among it, be it in the plan or of an earlier protocol; nor is what a run could go on from; nor
anything that was changed in the last ten minutes, for a run may be at work on it; nor any file that is not estbench's.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from estbench.guarded import IN_USE_SECONDS, TEMPORARY, DamagedError, GuardedPath, LinkError
from estbench.store.folder import ResultsFolder
from estbench.store.status import Status

CELL = re.compile(r"[a-z0-9_][a-z0-9._-]*-s\d+-[0-9a-f]{8}")
WORKSPACE = re.compile(rf"\.({CELL.pattern})\.partial")
REPLACED = re.compile(rf"\.({CELL.pattern})\.replaced")
ATTEMPTS = re.compile(rf"\.({CELL.pattern})\.attempts(\.claim)?")
# On its way out; a `clean` that was killed meanwhile has left it.
REMOVED = re.compile(r"\..+\.[0-9a-f]{16}\.removed")


class Leftover(NamedTuple):
    """A file or folder that may go."""

    path: GuardedPath
    why: str
    size: int


def leftovers(folder: ResultsFolder) -> list[Leftover]:
    """What may be removed; raise ``EstbenchError`` where the plan cannot be read."""
    planned = {cell["folder"] for cell in folder.read_plan()["cells"]}
    planned |= {folder.place(name).name for name in planned}
    newest = time.time() - IN_USE_SECONDS
    found = []
    for path, why in (*_temporary(folder), *_cells(folder, planned)):
        inside = [state for _, state in path.walk()]
        if inside and (REMOVED.fullmatch(path.name) or max(state.st_mtime for state in inside) < newest):
            found.append(Leftover(path, why, sum(state.st_size for state in inside if stat.S_ISREG(state.st_mode))))
    return found


def remove(leftover: Leftover) -> None:
    """Remove a file or a folder, whole: out of the way first, so that a removal that is cut short can go on."""
    path = leftover.path
    if not REMOVED.fullmatch(path.name):
        aside = path.parent / f".{path.name.strip('.')[:200]}.{secrets.token_hex(8)}.removed"
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        path = aside
    path.remove()


def _temporary(folder: ResultsFolder) -> Iterator[tuple[GuardedPath, str]]:
    """Files that were being written; those inside a workspace go with it, or with the run that takes it up."""
    finished = [path for path, _ in _real(folder.cells) if CELL.fullmatch(path.name)]
    events = [path for path, _ in _real(folder.report / "tensorboard")]
    neutral = [path for path, _ in _real(folder.trajectories)]
    report = [folder.report, folder.report / "tables", folder.report / "figures"]
    for place in (GuardedPath(folder.path), folder.cells, *finished, *report, *events, *neutral, folder.certificates):
        for path, mode in _real(place):
            if TEMPORARY.fullmatch(path.name) and stat.S_ISREG(mode):
                yield path, "was being written"
            elif REMOVED.fullmatch(path.name):
                yield path, "was being removed"


def _cells(folder: ResultsFolder, planned: set[str]) -> Iterator[tuple[GuardedPath, str]]:
    present = dict(_real(folder.cells))
    names = {path.name for path in present}
    for path, mode in present.items():
        if match := ATTEMPTS.fullmatch(path.name):
            if match[1] not in planned or _is_final(folder, match[1]):
                yield path, "counts the tries of a cell that is finished or not planned"
        elif not stat.S_ISDIR(mode):
            continue
        elif match := WORKSPACE.fullmatch(path.name):
            if match[1] not in planned:
                yield path, "was begun for a cell that is not planned"
            elif _is_final(folder, match[1]):
                yield path, "was begun for a cell that is finished"
        elif match := REPLACED.fullmatch(path.name):
            # Until the new record is in place, this is the only one.
            if match[1] in names:
                yield path, "was replaced by a newer record"
        elif CELL.fullmatch(path.name) and path.name not in planned and not _is_final(folder, path.name):
            yield path, "is not planned, and not finished"


def _is_final(folder: ResultsFolder, name: str) -> bool:
    try:
        record = folder.read_record(name)
    except DamagedError:
        return False
    return record is not None and Status(record["status"]).final


def _real(place: GuardedPath) -> list[tuple[GuardedPath, int]]:
    """What is in a folder and of which kind, without links; nothing where the folder is one itself, or is gone."""
    with contextlib.suppress(LinkError, DamagedError, NotADirectoryError):
        found = []
        for path in place.iterdir():
            with contextlib.suppress(LinkError, FileNotFoundError):
                found.append((path, path.stat().st_mode))
        return found
    return []
