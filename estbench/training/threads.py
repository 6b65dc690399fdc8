"""Threads of plugins that go on after their cell: they may draw from torch's generator, which all threads share."""

from __future__ import annotations

import sys
import threading
import types
import weakref
from typing import Any

from estbench.failures import is_foreign

# Threads that are not for us to judge: those of the program that calls estbench.
_OF_HOST: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
# Those among them that ``threading`` does not know, by their identifiers: they were started from C or by ``_thread``.
_UNKNOWN_OF_HOST: set[int] = set()


def accept_threads() -> None:
    """Accept the threads that there are now; called before any plugin is loaded."""
    threads = threading.enumerate()
    _OF_HOST.update(threads)
    _UNKNOWN_OF_HOST.update(sys._current_frames().keys() - {thread.ident for thread in threads})  # noqa: SLF001


def threads_left() -> list[str]:
    """Names of the threads that run a plugin's code, other than the one that asks."""
    frames = sys._current_frames()  # noqa: SLF001
    known = {thread.ident: thread for thread in threading.enumerate()}
    own = {threading.get_ident(), threading.main_thread().ident}
    found = []
    for ident in [ident for ident in frames if ident not in own]:
        thread = known.get(ident)
        accepted = ident in _UNKNOWN_OF_HOST if thread is None else thread in _OF_HOST
        if accepted or not (_runs_plugin(frames[ident]) or _is_of_plugin(thread)):
            continue
        found.append(thread.name if thread else f"thread {ident}")
    return found


def _runs_plugin(frame: types.FrameType | None) -> bool:
    while frame is not None:
        if is_foreign(frame.f_globals.get("__name__", "")):
            return True
        frame = frame.f_back
    return False


def _is_of_plugin(thread: threading.Thread | None) -> bool:
    """Whether a thread is a plugin's by its class or by the function that it was made for; waiting, perhaps."""
    target: Any = getattr(thread, "function", None) or getattr(thread, "_target", None)
    owner = getattr(target, "__globals__", {}).get("__name__")
    if owner is not None:
        return is_foreign(owner)
    # A timer may be about to call a function of torch itself; a thread may say by its class what it runs.
    return isinstance(target, types.BuiltinFunctionType) or is_foreign(type(thread or 0).__module__)
