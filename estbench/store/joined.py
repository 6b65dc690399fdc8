"""Several results folders written as one, for cells that were computed on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.limits import COPY_BYTES
from estbench.store.folder import ResultsFolder
from estbench.store.merge import load_many
from estbench.store.plans import checked_folder
from estbench.store.results import Results, load
from estbench.store.tables import THROUGHPUT, read_rows


def join(paths: Sequence[str | Path], out: str | Path) -> Results:
    """Write the merged plan, cells and timings of results folders into ``out``, a new folder, and load it.

    Records are copied as they are; reports are not copied. The folder is made beside ``out`` and renamed into place
    when it is whole. Raises ``EstbenchError`` for what ``merge`` refuses, and if there is something at ``out``.
    """
    merged, out = load_many(paths), Path(out)
    target = GuardedPath(out.parent) / out.name
    if target.exists() and (not target.is_dir() or target.names()):
        raise EstbenchError(f"'{out}' is there already; name a new folder with -o")
    partial = target.parent / f".{target.name}.partial"
    try:
        if partial.exists():  # of a merge that was killed
            partial.remove()
        folder = ResultsFolder(partial)
        folder.create()
        for name in merged.records:
            _copy_cell(merged.home(name), folder.cells / checked_folder(name))
        folder.append_throughput(_rounds(merged))
        head = {name: merged.plan[name] for name in ("protocol", "experiment")}
        folder.write_plan(head, merged.plan["cells"])
        partial.rename(target)
    finally:
        partial.remove()
    return load(out)


def _rounds(merged: Results) -> list[dict[str, Any]]:
    """All timed rounds; one that several folders hold counts once."""
    files = [ResultsFolder(path).throughput_file for path in (merged.path, *merged.others)]
    rows = [row for file in files if file.exists() for row in read_rows(file, THROUGHPUT)]
    return list({tuple(row.values()): row for row in rows}.values())


def _copy_cell(source: GuardedPath, target: GuardedPath) -> None:
    """Copy a cell's files; a link among them could be to any file of this machine, and is refused."""
    target.mkdir()
    for file in source.iterdir():
        if not file.is_dir():
            file.copy(target / file.name, COPY_BYTES)
