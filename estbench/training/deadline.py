"""A cell's time limit, kept even where Python is not asked: in a deadlock, or in native code that holds the GIL."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Iterator

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
    def enforced(self, evidence: GuardedPath) -> Iterator[None]:
        """Within, a cell that overstays and does not stop ends its process, which leaves its stack in ``evidence``."""
        if self.seconds is None:
            yield
            return
        limit = self.seconds + max(GRACE * self.seconds, LEAST_GRACE_SECONDS)
        told = threading.Timer(limit, _tell, [self.seconds])
        told.daemon = True
        evidence.unlink(missing_ok=True)
        with evidence.claimed() as file:
            told.start()
            # A little later, so that the message comes first where the GIL is free.
            faulthandler.dump_traceback_later(limit + 0.1, exit=True, file=file)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                told.cancel()
        evidence.unlink()


def overstayed(evidence: GuardedPath) -> str | None:
    """The stack of a process that was ended at its deadline; nothing where none was."""
    try:
        return evidence.read_end(MOST_STACK).decode(errors="replace") or None
    except FileNotFoundError:
        return None


def _tell(seconds: float) -> None:
    print(
        f"Error: a cell hangs past its {seconds:g} s and cannot be stopped, so this process ends; "
        "run again: the cell is recorded as timeout, and the others go on",
        file=sys.stderr,
        flush=True,
    )
