"""One process at a time: a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from estbench.errors import EstbenchError


@contextlib.contextmanager
def held(path: Path) -> Iterator[IO[str]]:
    """Hold a file alone, open for reading and appending; whoever leaves in order removes it.

    Where its holder was killed the file stays, with what was written into it, and is free. Raises
    ``BlockingIOError`` where another process holds it. A file system that knows no locks grants every wish.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            break
        if _is_at(file, path):
            break
        file.close()  # the one before us removed it between our two calls
    try:
        yield file
    finally:
        path.unlink(missing_ok=True)
        file.close()


@contextlib.contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Refuse a second run in a results folder while a first one is at work."""
    path = folder / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(held(path))
        except BlockingIOError:
            raise EstbenchError(
                f"another run is at work in '{folder}' ({_holder(path)}); wait until it ends, "
                "or choose another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8") or "unknown"
    return "unknown"


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
