"""Ctrl-C and termination as a polite request, once."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


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
                with contextlib.suppress(ValueError):  # in an interpreter beside the main one
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
