"""Files in a results folder that may be removed: those left by killed runs, and cells that no plan has.

These are never among them: finished cells, in the plan or of an earlier protocol; anything that a run could continue
from; anything that was changed in the last ten minutes, because a run may be using it; and files that are not
estbench's.
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
# Being removed, or left by an `estbench clean` that was killed.
REMOVED = re.compile(r"\..+\.[0-9a-f]{16}\.removed")


class Leftover(NamedTuple):
    """A file or folder that may be removed, with the reason and its size in bytes."""

    path: GuardedPath
    why: str
    size: int


def leftovers(folder: ResultsFolder) -> list[Leftover]:
    """Return what may be removed; raise ``EstbenchError`` if the plan cannot be read."""
    planned = {cell["folder"] for cell in folder.read_plan()["cells"]}
    planned |= {folder.place(name).name for name in planned}
    newest = time.time() - IN_USE_SECONDS
    removable = []
    for path, why in (*_temporary(folder), *_cells(folder, planned)):
        inside = [state for _, state in path.walk()]
        if inside and (REMOVED.fullmatch(path.name) or max(state.st_mtime for state in inside) < newest):
            size = sum(state.st_size for state in inside if stat.S_ISREG(state.st_mode))
            removable.append(Leftover(path, why, size))
    return removable


def remove(leftover: Leftover) -> None:
    """Remove a file or a folder. It is renamed first, so that an interrupted removal can be completed later."""
    path = leftover.path
    if not REMOVED.fullmatch(path.name):
        aside = path.parent / f".{path.name.strip('.')[:200]}.{secrets.token_hex(8)}.removed"
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        path = aside
    path.remove()


def _temporary(folder: ResultsFolder) -> Iterator[tuple[GuardedPath, str]]:
    """Yield unfinished files, except those in a workspace: they are removed with it, or by the run that resumes it."""
    finished = [path for path, _ in _list_folder(folder.cells) if CELL.fullmatch(path.name)]
    events = [path for path, _ in _list_folder(folder.report / "tensorboard")]
    neutral = [path for path, _ in _list_folder(folder.trajectories)]
    report = [folder.report, folder.report / "tables", folder.report / "figures"]
    for parent in (GuardedPath(folder.path), folder.cells, *finished, *report, *events, *neutral, folder.certificates):
        for path, mode in _list_folder(parent):
            if TEMPORARY.fullmatch(path.name) and stat.S_ISREG(mode):
                yield path, "was being written"
            elif REMOVED.fullmatch(path.name):
                yield path, "was being removed"


def _cells(folder: ResultsFolder, planned: set[str]) -> Iterator[tuple[GuardedPath, str]]:
    present = dict(_list_folder(folder.cells))
    names = {path.name for path in present}
    for path, mode in present.items():
        if match := ATTEMPTS.fullmatch(path.name):
            if match[1] not in planned or _is_final(folder, match[1]):
                yield path, "counts the attempts at a cell that is finished or not planned"
        elif not stat.S_ISDIR(mode):
            continue
        elif match := WORKSPACE.fullmatch(path.name):
            if match[1] not in planned:
                yield path, "was started for a cell that is not planned"
            elif _is_final(folder, match[1]):
                yield path, "was started for a cell that is finished"
        elif match := REPLACED.fullmatch(path.name):
            # Before the new record has its final name, this is the only record of the cell.
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


def _list_folder(folder: GuardedPath) -> list[tuple[GuardedPath, int]]:
    """Return the contents of a folder with their modes, without links; nothing if it is a link, or does not exist."""
    with contextlib.suppress(LinkError, DamagedError, NotADirectoryError):
        contents = []
        for path in folder.iterdir():
            with contextlib.suppress(LinkError, FileNotFoundError):
                contents.append((path, path.stat().st_mode))
        return contents
    return []
