"""A report of a run in progress: when to build it again, and a page that loads itself again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

# Seconds after which a watched page loads itself again; a cell takes longer.
REFRESH = 5

Marks = tuple[tuple[str, int, int], ...]


def marks(folders: Iterable[str | Path]) -> Marks:
    """Return the files that change when a cell ends, a plan grows or a timing is added, with their times and sizes."""
    from estbench.store import ResultsFolder  # noqa: PLC0415  (pyarrow takes a moment to load)

    found = []
    for folder in map(ResultsFolder, folders):
        records = [home / "cell.json" for home in folder.cells.iterdir() if not home.name.startswith(".")]
        for path in (folder.plan_file, folder.throughput_file, *records):
            try:
                stat = path.stat()
            except (OSError, EstbenchError):  # not there yet, or being replaced
                continue
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def changes(
    folders: Iterable[str | Path], interval: float, wait: Callable[[float], object] = time.sleep
) -> Iterator[None]:
    """Yield at once, then whenever the folders have changed; looks every ``interval`` seconds, and never ends."""
    folders = tuple(folders)
    seen: Marks | None = None
    while True:
        now = marks(folders)
        if now != seen:
            seen = now  # before the build: what ends meanwhile is a change of its own
            yield
        wait(interval)


def refreshing(page: bytes, seconds: int = REFRESH) -> bytes:
    """Return the page with the request to load it again after some seconds."""
    return page.replace(b"<head>", f'<head>\n<meta http-equiv="refresh" content="{seconds}">'.encode(), 1)
