"""Processes of this machine: the cores that they may use, and how they start and end."""

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
    """Return the number of cores that this process may use; if the system does not say, that of the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def end_with_parent() -> None:
    """Make this process of multiprocessing end as soon as its parent ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def _wait_and_end(parent: Any) -> None:
    parent.join()
    os._exit(1)


def end_process(code: int) -> NoReturn:
    """End this process with an exit code, whatever threads still run.

    The exit functions run and the streams are flushed, but the interpreter is not finalised: a thread that a plugin has
    left would abort that (a daemon inside an operator of torch) or make it wait for ever (any other thread).
    """
    atexit._run_exitfuncs()  # noqa: SLF001  (it has no public name)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk; a closed stream
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def started_without_script(prefix: str) -> Iterator[None]:
    """Start processes whose name has this prefix without importing the caller's script.

    They do not need the script, and it then needs no ``if __name__ == "__main__"``. Other processes start as usual, and
    ``__main__`` is not changed, because torch reads it.
    """
    original = spawn.get_preparation_data

    def prepared(name: str) -> dict[str, Any]:
        data = original(name)
        if name.startswith(prefix):
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    spawn.get_preparation_data = prepared
    try:
        yield
    finally:
        spawn.get_preparation_data = original
