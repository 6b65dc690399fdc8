"""``estbench run --live``: the report is built again after each cell, in another process."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from estbench.cli.console import say
from estbench.store import ResultsFolder

# While it is drawn, no worker gets a new cell; drawing may take a tenth of the time.
SHARE_BESIDE_WORKERS = 0.1


@contextlib.contextmanager
def live_report(*, beside_workers: bool = False) -> Iterator[Callable[[ResultsFolder], None]]:
    """Yield what rebuilds the report of a folder; where the run is cut short, the page stops refreshing.

    It is rebuilt whenever it is called; with ``beside_workers``, not as often as that would keep them waiting.

    The report is drawn in a process of its own, so its libraries are never in the memory that is measured here.
    If a report cannot be drawn, a message says so; training continues.
    """
    from estbench.report.watch import REFRESH

    last: list[Path] = []
    not_before = 0.0

    def rebuild(folder: ResultsFolder) -> None:
        nonlocal not_before
        began = time.monotonic()
        if beside_workers and began < not_before:
            return
        drawn = _drawn(folder.path, REFRESH)
        ended = time.monotonic()
        not_before = ended + (ended - began) / SHARE_BESIDE_WORKERS
        if not drawn:
            say("the live report could not be drawn; training continues", stderr=True)
        elif not last:
            page = folder.report / "report.html"
            say(f"live report: {page}")
        last[:] = [folder.path] if drawn else last

    try:
        yield rebuild
    except BaseException:
        if last:
            _drawn(last[0], None)
        raise


def _drawn(path: Path, refresh: int | None) -> bool:
    process = multiprocessing.get_context("spawn").Process(target=_draw, args=(path, refresh))
    process.start()
    process.join()
    return process.exitcode == 0


def _draw(path: Path, refresh: int | None) -> None:
    """Build the report, in the other process; Ctrl-C is for the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from estbench.errors import EstbenchError
    from estbench.report import build

    try:
        build(path, refresh=refresh)
    except EstbenchError as error:
        say(f"Error: {error}", stderr=True)
        sys.exit(1)
