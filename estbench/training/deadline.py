"""A cell's time limit, kept even where Python is not asked: in a deadlock, or in native code that holds the GIL."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from estbench.guarded import GuardedPath

# A cell that does not stop by itself within a tenth more (five seconds at least) is ended together with its process.
GRACE = 0.1
LEAST_GRACE_SECONDS = 5.0
# Bytes of the stack that are kept: its end.
MOST_STACK = 50_000


class Deadline:
    """Seconds that a cell may take, from the moment this is made; ``None`` for as long as it takes.

    They are counted on the monotonic clock, which stands still while a laptop sleeps and knows no change of date.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.began = time.monotonic()

    def __call__(self) -> bool:
        """Whether it has passed."""
        return self.seconds is not None and time.monotonic() - self.began >= self.seconds

    @contextlib.contextmanager
    def enforced(self, evidence: GuardedPath, *, exit_if_hung: bool) -> Iterator[None]:
        """Within, a cell that overstays and does not stop leaves its stack in ``evidence``.

        With ``exit_if_hung`` its process then ends, even where native code holds the GIL. Without, which is for a
        process that has other things to do, people are told, and have to end it themselves.
        """
        if self.seconds is None:
            yield
            return
        limit = self.seconds + max(GRACE * self.seconds, LEAST_GRACE_SECONDS)
        evidence.unlink(missing_ok=True)
        with evidence.claimed() as file:
            told = threading.Timer(limit, _tell, [self.seconds, None if exit_if_hung else file])
            told.daemon = True
            told.start()
            if exit_if_hung:
                # A little later, so that the message comes first where the GIL is free.
                faulthandler.dump_traceback_later(limit + 0.1, exit=True, file=file)
            try:
                yield
            finally:
                if exit_if_hung:
                    faulthandler.cancel_dump_traceback_later()
                told.cancel()
                told.join()
        evidence.unlink()


def overstayed(evidence: GuardedPath) -> str | None:
    """The stack of a process that was ended at its deadline; nothing where none was."""
    try:
        return evidence.read_end(MOST_STACK).decode(errors="replace") or None
    except FileNotFoundError:
        return None


def _tell(seconds: float, file: IO[str] | None) -> None:
    """Say that a cell hangs; with a file, this process goes on, and the stack of the hang goes there."""
    if file is not None:
        faulthandler.dump_traceback(file)
    remedy = (
        "so this process ends; run again" if file is None else "end this process (restart the kernel) and run again"
    )
    print(
        f"Error: a cell hangs past its {seconds:g} s and cannot be stopped, {remedy}: the cell is recorded as timeout, "
        "and the others go on",
        file=sys.stderr,
        flush=True,
    )
