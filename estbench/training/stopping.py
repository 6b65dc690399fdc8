"""Stopping a cell: the first Ctrl-C or SIGTERM is a request, the second raises; and a deadline."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import IO, Any, Self

from estbench.guarded import GuardedPath


class Interrupts:
    """While entered, the first SIGINT or SIGTERM only sets a flag; a second one raises ``KeyboardInterrupt``.

    A run can then stop between two steps, where its checkpoint is whole. Unless ``polite``, the first one raises, too;
    the flag tells a real signal from an exception that a plugin raised by itself. Outside the main thread, where
    Python lets nobody handle signals, it does nothing; nor does it to a handler that was not installed from Python,
    which could not be put back.
    """

    def __init__(self, *, polite: bool = True) -> None:
        self.requested = False
        self.polite = polite
        self._previous: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(ValueError):  # in a subinterpreter
                    if signal.getsignal(number) is not None:
                        self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested or not self.polite:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True


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
        """Enforce the deadline in this block: a cell that does not stop writes its stack to ``evidence``.

        With ``exit_if_hung`` the process then ends, even if native code holds the GIL. Without it, for a process that
        has other work, a warning asks the user to end the process.
        """
        if self.seconds is None:
            yield
            return
        limit = self.seconds + max(GRACE * self.seconds, LEAST_GRACE_SECONDS)
        evidence.unlink(missing_ok=True)
        with evidence.claimed() as file:
            warning = threading.Timer(limit, _warn_of_hang, [self.seconds, None if exit_if_hung else file])
            warning.daemon = True
            warning.start()
            if exit_if_hung:
                # A little later, so that the message comes first where the GIL is free.
                faulthandler.dump_traceback_later(limit + 0.1, exit=True, file=file)
            try:
                yield
            finally:
                if exit_if_hung:
                    faulthandler.cancel_dump_traceback_later()
                warning.cancel()
                warning.join()
        evidence.unlink()


def read_hang_traceback(evidence: GuardedPath) -> str | None:
    """Return the stack of a process that was ended at its deadline; None if there was none."""
    try:
        return evidence.read_end(MOST_STACK).decode(errors="replace") or None
    except FileNotFoundError:
        return None


def _warn_of_hang(seconds: float, file: IO[str] | None) -> None:
    """Say that a cell hangs; with a file, this process goes on, and the stack of the hang goes there."""
    if file is not None:
        faulthandler.dump_traceback(file)
    remedy = (
        "so this process ends; run again" if file is None else "end this process (restart the kernel) and run again"
    )
    print(
        f"Error: a cell exceeded its timeout of {seconds:g} s and cannot be stopped, {remedy}: its status is timeout, "
        "and the others continue",
        file=sys.stderr,
        flush=True,
    )
