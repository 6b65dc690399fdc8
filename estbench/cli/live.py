"""``estbench run --live``: the report is built again after each cell, beside the run and not in it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from estbench.cli.console import console
from estbench.store import ResultsFolder


@contextlib.contextmanager
def live_report() -> Iterator[Callable[[ResultsFolder], None]]:
    """Yield what rebuilds the report of a folder; where the run is cut short, the page stops refreshing.

    The report is drawn in a process of its own, so its libraries are never in the memory that is measured here.
    A report that cannot be drawn is told and stops no training.
    """
    from estbench.report.watch import REFRESH

    last: list[Path] = []

    def rebuild(folder: ResultsFolder) -> None:
        drawn = _drawn(folder.path, REFRESH)
        if not drawn:
            console(stderr=True).print("the live report could not be drawn; training goes on", highlight=False)
        elif not last:
            page = folder.report / "report.html"
            console().print(f"live report: {page}", soft_wrap=True, highlight=False, markup=False)
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
    from estbench import report
    from estbench.errors import EstbenchError

    try:
        report.build(path, refresh=refresh)
    except EstbenchError as error:
        sys.exit(f"Error: {error}")
