"""One process at a time: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import filelock

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath, guarded

# How a file system says that it has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
# Without locks, a holder says so often that it lives, and counts as dead after so long without a word.
BEAT_SECONDS = 10.0
DEAD_SECONDS = 90.0
MOST_READ = 200


@contextlib.contextmanager
def held(path: str | os.PathLike[str], noted: Callable[[str], None] = lambda _line: None) -> Iterator[IO[str]]:
    """Hold a file alone, open for reading and appending; whoever leaves in order removes it.

    Where its holder was killed the file stays, with what was written into it, and is free. Raises
    ``BlockingIOError`` where another process holds it. On a file system that knows no locks, a second file beside it
    stands for the lock, and ``noted`` is told so.
    """
    path = guarded(path)
    with contextlib.ExitStack() as stack:
        while True:
            file = path.appended()
            stack.callback(file.close)
            try:
                alone = filelock.lock_descriptor(file.fileno(), blocking=False)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                noted(f"the file system of '{path.parent}' has no locks; '{path.name}.claim' stands for one")
                stack.enter_context(_claim(path.parent / f"{path.name}.claim"))
                break
            if not alone:
                raise BlockingIOError(errno.EAGAIN, "held by another process", str(path))
            if _is_at(file, path):
                break
            file.close()  # the one before us removed it between our two calls
        try:
            yield file
        finally:
            _leave(file, path)


@contextlib.contextmanager
def one_run(folder: Path, noted: Callable[[str], None] = lambda _line: None) -> Iterator[None]:
    """Refuse a second run in a results folder while a first one is at work."""
    path = GuardedPath(folder) / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(held(path, noted))
        except BlockingIOError:
            raise EstbenchError(
                f"another run is at work in '{folder}' ({_holder(path)}); wait until it ends, "
                "or choose another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


@contextlib.contextmanager
def _claim(path: GuardedPath) -> Iterator[None]:
    """Hold a file by having made it; it says who we are, and its date is kept fresh while we live."""
    while True:
        try:
            file = path.claimed()
            break
        except FileExistsError:
            if not _is_dead(path):
                raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from None
            _take_away(path)
    file.write(f"{os.getpid()} {platform.node()}")
    file.flush()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(file.fileno())

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        _leave(file, path)


def _is_dead(path: GuardedPath) -> bool:
    """Whether whoever made a claim has gone: its process, where it is of this machine, or its signs of life."""
    try:
        changed = path.stat().st_mtime
        process, _, machine = path.read_end(MOST_READ).decode(errors="replace").partition(" ")
    except FileNotFoundError:
        return True
    if machine == platform.node() and process.isdecimal() and os.name == "posix":
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False
        return False
    return time.time() - changed > DEAD_SECONDS


def _take_away(path: GuardedPath) -> None:
    """Remove a dead claim; where another process was quicker, and the claim is a new one, put it back."""
    aside = path.parent / f"{path.name}.{secrets.token_hex(8)}.removed"
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if _is_dead(aside):
            aside.unlink(missing_ok=True)
        else:
            aside.rename(path)


def _leave(file: IO[str], path: GuardedPath) -> None:
    """Remove a file that we hold, and let it go; in the order that the system allows."""
    try:
        path.unlink(missing_ok=True)
        file.close()
    except PermissionError:  # Windows removes no file that is open
        file.close()
        with contextlib.suppress(PermissionError):  # the next one has it already
            path.unlink(missing_ok=True)


def _holder(path: GuardedPath) -> str:
    with contextlib.suppress(OSError):
        return path.read_end(MOST_READ).decode(errors="replace") or "unknown"
    return "unknown"


def _is_at(file: IO[str], path: GuardedPath) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
