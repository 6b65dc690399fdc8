"""A lock for one process at a time; the system frees it when the process dies.

``filelock`` locks the descriptor of a file that is opened here, because files of a results folder are only opened by
``estbench.guarded``: its own ``FileLock`` opens a path, keeps the file, and has no fallback for most file systems that
have no locks.
"""

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

# The errors of a file system that has no locks.
NO_LOCKS = {
    getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "EINVAL", "ENOTSUP", "EOPNOTSUPP") if hasattr(errno, name)
}
# Without locks, the process with the claim touches it this often; after this long without a touch, it counts as dead.
BEAT_SECONDS = 10.0
DEAD_SECONDS = 90.0
MOST_READ = 200


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], notify: Callable[[str], None] = lambda _line: None) -> Iterator[IO[str]]:
    """Lock a file for this process, open for reading and appending; it is removed at the end of the block.

    If the process is killed, the file stays with its content, and is no longer locked. Raises ``BlockingIOError`` if
    another process has the lock. On a file system without locks, a second file, ``NAME.claim``, takes the place of the
    lock, and ``notify`` is called with a line about it.
    """
    path = guarded(path)
    with contextlib.ExitStack() as stack:
        while True:
            file = path.appended()
            stack.callback(file.close)
            try:
                locked = filelock.lock_descriptor(file.fileno(), blocking=False)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                notify(f"the file system of '{path.parent}' has no locks; using the file '{path.name}.claim' instead")
                stack.enter_context(_claim(path.parent / f"{path.name}.claim"))
                break
            if not locked:
                raise BlockingIOError(errno.EAGAIN, "locked by another process", str(path))
            if _is_same_file(file, path):
                break
            file.close()  # the process before removed the file after it was opened here
        try:
            yield file
        finally:
            _remove_and_close(file, path)


@contextlib.contextmanager
def one_run(folder: Path, notify: Callable[[str], None] = lambda _line: None) -> Iterator[None]:
    """Lock a results folder for one run; raise ``EstbenchError`` if another run uses it."""
    path = GuardedPath(folder) / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(exclusive(path, notify))
        except BlockingIOError:
            raise EstbenchError(
                f"another run is at work in '{folder}' ({_read_owner(path)}); wait until it ends, "
                "or choose another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


@contextlib.contextmanager
def _claim(path: GuardedPath) -> Iterator[None]:
    """Take the place of a lock by creating a file; it names this process, which touches it regularly."""
    while True:
        try:
            file = path.claimed()
            break
        except FileExistsError:
            if not _is_dead(path):
                raise BlockingIOError(errno.EAGAIN, "locked by another process", str(path)) from None
            _remove_dead(path)
    file.write(f"{os.getpid()} {platform.node()}")
    file.flush()
    ended = threading.Event()

    def touch_regularly() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(file.fileno() if os.utime in os.supports_fd else path)

    touching = threading.Thread(target=touch_regularly, daemon=True)
    touching.start()
    try:
        yield
    finally:
        ended.set()
        touching.join()
        _remove_and_close(file, path)


def _is_dead(path: GuardedPath) -> bool:
    """Whether the process that made a claim has died: it is gone from this machine, or has not touched the claim."""
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


def _remove_dead(path: GuardedPath) -> None:
    """Remove the claim of a dead process; if another process has just replaced it by a new one, put that back."""
    aside = path.parent / f"{path.name}.{secrets.token_hex(8)}.removed"
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if _is_dead(aside):
            aside.unlink(missing_ok=True)
        else:
            aside.rename(path)


def _remove_and_close(file: IO[str], path: GuardedPath) -> None:
    """Remove a file that this process has locked, and close it, in the order that the system allows."""
    try:
        path.unlink(missing_ok=True)
        file.close()
    except PermissionError:  # Windows does not remove an open file
        file.close()
        with contextlib.suppress(PermissionError):  # another process has opened it already
            path.unlink(missing_ok=True)


def _read_owner(path: GuardedPath) -> str:
    with contextlib.suppress(OSError):
        return path.read_end(MOST_READ).decode(errors="replace") or "unknown"
    return "unknown"


def _is_same_file(file: IO[str], path: GuardedPath) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
