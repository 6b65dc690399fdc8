"""Processes of this machine: how many cores they may use, how new ones start, and how one ends."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import spawn
from typing import Any, NoReturn


def usable_cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def end_with_parent() -> None:
    """From now on, end this process of multiprocessing as soon as its parent has ended, even by being killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def _wait_and_end(parent: Any) -> None:
    parent.join()
    os._exit(1)


def end_process(code: int) -> NoReturn:
    """End this process with an exit code, whatever threads are left in it.

    The exit functions run and the streams are flushed, but the interpreter is not taken down: a thread that a plugin
    left would abort it (a daemon inside an operator of torch) or keep it waiting for ever (any other).
    """
    atexit._run_exitfuncs()  # noqa: SLF001  (it has no public name)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk; closed
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def started_without_script(started: str) -> Iterator[None]:
    """Within, processes whose name starts so run without importing the caller's script, which needs no guard for it.

    They need nothing of it, and it is running. Processes of other names start as always, and ``__main__`` stays as
    it is: torch looks at it.
    """
    original = spawn.get_preparation_data

    def prepared(name: str) -> dict[str, Any]:
        data = original(name)
        if name.startswith(started):
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    spawn.get_preparation_data = prepared
    try:
        yield
    finally:
        spawn.get_preparation_data = original
