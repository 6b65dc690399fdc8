"""Safe access to the files of a results folder, which may come from a stranger. No other module opens them.

The folder that the user names may be a link, or be reached through links: the user chose it. Nothing below it may be a
link. A ``GuardedPath`` is a path below such a root. Each folder on the way is opened relative to the descriptor of the
one before, and never through a symbolic link, so nobody can insert a link meanwhile. Only regular files are opened,
because a pipe would hang and a device could fill the memory. A file with a second name (a hard link) is read, and is
replaced, which does not change the other name; but nothing is ever appended to it.

On a system without such descriptors (Windows), each folder on the way is checked before the path is used. A link is
refused there, too, except one that is inserted between the check and the use.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from estbench.errors import FAULTS_OF_THE_MACHINE, EstbenchError, ReadError
from estbench.limits import TEXT_BYTES, Limit

DESCRIPTORS = {os.open, os.stat, os.mkdir, os.unlink, os.rename} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
GUARDS = PLAIN | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
DIRECTORY = os.O_RDONLY | PLAIN | getattr(os, "O_DIRECTORY", 0)
# The errors of the system for a link, and for anything else that is no regular file, or no folder.
IRREGULAR = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP}
# A file that is being written; the random name is different for any two processes, also on two machines.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
IN_USE_SECONDS = 600  # a file that was changed more recently may still be in use
DEEPEST = 32  # nested folders, at most; a results folder has three levels
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DamagedError(EstbenchError):
    """A file that is incomplete or has wrong content; its cell can be computed again."""


class LinkError(EstbenchError):
    """A link below a results folder, which could lead out of it."""


@functools.total_ordering
class GuardedPath:
    """A path below a root: ``GuardedPath(root) / "cells" / name``. Reads, writes and removes without following links.

    Methods with a name of ``pathlib.Path`` do the same as there, with three differences: they refuse links, a file is
    written completely or not at all, and the size of a file that is read is limited.
    """

    __slots__ = ("parts", "root")

    def __init__(self, root: str | os.PathLike[str], *parts: str) -> None:
        self.root = Path(root)
        self.parts: tuple[str, ...] = parts

    def __truediv__(self, name: str) -> GuardedPath:
        steps = str(name).split("/")
        if any(step in {"", ".", ".."} or "\0" in step or (os.sep != "/" and os.sep in step) for step in steps):
            raise EstbenchError(f"{str(name)!r} is not a valid name of a file in '{self}'")
        return GuardedPath(self.root, *self.parts, *steps)

    def __fspath__(self) -> str:
        return os.path.join("" if self.parts and str(self.root) == "." else self.root, *self.parts)

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"GuardedPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedPath) and (self.root, self.parts) == (other.root, other.parts)

    def __lt__(self, other: GuardedPath) -> bool:
        return (self.root, self.parts) < (other.root, other.parts)

    def __hash__(self) -> int:
        return hash((self.root, self.parts))

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1] if self.parts else self.root.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the last part, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> GuardedPath:
        """The folder that this is in; for the root, the parent of the root."""
        return GuardedPath(self.root, *self.parts[:-1]) if self.parts else GuardedPath(self.root.parent)

    # Looking

    def stat(self) -> os.stat_result:
        """Return size, dates and mode; raise ``LinkError`` for a symbolic link."""
        with self._reached() as (name, at), self.named(ReadError):
            status = os.stat(name, follow_symlinks=not self.parts, **at)
        if stat.S_ISLNK(status.st_mode):
            raise _link_error(self)
        return status

    def exists(self) -> bool:
        """Whether there is anything at this path; a symbolic link is refused."""
        try:
            self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_file(self) -> bool:
        """Whether this is a regular file; a symbolic link is refused."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def is_dir(self) -> bool:
        """Whether this is a folder; a symbolic link is refused."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def names(self) -> list[str]:
        """Return the names of this folder's contents, also of links; an empty list if there is no such folder."""
        try:
            with self.entered() as folder, self.named(ReadError):
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise DamagedError(f"'{error.filename}' is a file and no folder; remove it") from None

    def iterdir(self) -> Iterator[GuardedPath]:
        """Yield the paths of this folder's contents, sorted by name; a link is refused when its path is used."""
        return (GuardedPath(self.root, *self.parts, name) for name in self.names())

    def walk(self) -> Iterator[tuple[GuardedPath, os.stat_result]]:
        """Yield this path and everything below it; links are listed and not followed, and removed files are skipped."""
        if len(self.parts) > DEEPEST:
            raise EstbenchError(f"'{self.root}' has more than {DEEPEST} nested folders; remove '{self.parts[0]}'")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with self._reached() as (name, at), self.named(ReadError):
                status = os.stat(name, follow_symlinks=not self.parts, **at)
            yield self, status
            if stat.S_ISDIR(status.st_mode):
                for each in self.iterdir():
                    yield from each.walk()

    # Reading

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open the file for reading bytes."""
        if mode != "rb":
            raise ValueError(f"a guarded file can only be opened in mode 'rb', not {mode!r}")
        file: IO[bytes] = self._open_file(os.O_RDONLY, "rb")
        return file

    def read_bytes(self, limit: Limit = TEXT_BYTES) -> bytes:
        """Return the content; raise ``TooLargeError`` if it is larger than the limit."""
        with self.open() as file, self.named(ReadError):
            limit.check(os.fstat(file.fileno()).st_size, self)
            content = file.read(limit.value + 1)  # the file may have grown since
        limit.check(len(content), self)
        return content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict", limit: Limit = TEXT_BYTES) -> str:
        """Return the content as text."""
        return self.read_bytes(limit).decode(encoding, errors)

    def read_end(self, size: int) -> bytes:
        """Return the last ``size`` bytes of the content, or all of it if it is smaller."""
        with self.open() as file, self.named(ReadError):
            file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
            return file.read(size)

    # Writing

    def mkdir(self) -> None:
        """Make this folder and its parents, if they do not exist."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.entered(make=True):
            pass

    @contextlib.contextmanager
    def replaced(self, *, durable: bool = True) -> Iterator[IO[bytes]]:
        """Open a temporary file for writing; it replaces this one when complete and, if ``durable``, on disk."""
        temporary = self.parent / f".{self.name}.{secrets.token_hex(8)}.tmp"
        with self.parent.entered(make=True) as folder, self.named():
            self._remove_unfinished(folder)
            written = temporary.name if DESCRIPTORS else str(temporary)
            at = {"dir_fd": folder} if DESCRIPTORS else {}
            number = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | GUARDS, 0o666, **at)  # type: ignore[arg-type]
            try:
                with os.fdopen(number, "wb") as file:
                    yield file
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                if DESCRIPTORS:
                    os.replace(written, self.name, src_dir_fd=folder, dst_dir_fd=folder)  # type: ignore[arg-type]
                    if durable:
                        with contextlib.suppress(OSError):  # some file systems cannot; the file itself is on disk
                            os.fsync(folder)  # type: ignore[arg-type]
                else:
                    os.replace(written, _check_links(self))
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.unlink(written, **at)  # type: ignore[arg-type]
                if isinstance(error, IsADirectoryError):
                    raise _irregular_error(self, stat.S_IFDIR) from None
                raise

    def _remove_unfinished(self, folder: int | str) -> None:
        """Remove old temporary files that killed writers of this file have left; a recent one may be in use."""
        for name in os.listdir(folder):
            if TEMPORARY.fullmatch(name) and name.startswith(f".{self.name}.") and len(name) == len(self.name) + 22:
                left = self.parent / name
                with contextlib.suppress(OSError, LinkError):
                    if left.stat().st_mtime < time.time() - IN_USE_SECONDS:
                        left.unlink()

    def write_bytes(self, content: bytes | memoryview, *, durable: bool = True) -> None:
        """Write a file, completely or not at all."""
        with self.replaced(durable=durable) as file:
            file.write(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write a text file, completely or not at all; a lone surrogate, which UTF-8 cannot encode, is escaped."""
        self.write_bytes(text.encode(encoding, "backslashreplace"))

    def appended(self) -> IO[str]:
        """Open the text file for reading and appending; it is created if it does not exist."""
        return io.TextIOWrapper(
            self._open_file(os.O_RDWR | os.O_APPEND | os.O_CREAT, "ab+"), encoding="utf-8", errors="backslashreplace"
        )

    def claimed(self) -> IO[str]:
        """Create a text file and open it; raise ``FileExistsError`` if there is anything at this path."""
        return io.TextIOWrapper(
            self._open_file(os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, "ab+"), encoding="utf-8"
        )

    def copy(self, target: GuardedPath, limit: Limit) -> None:
        """Copy the content to another path; raise ``TooLargeError`` if it is larger than the limit."""
        with self.open() as source, target.replaced() as copied:
            limit.check(os.fstat(source.fileno()).st_size, self)
            shutil.copyfileobj(source, copied, 2**20)

    # Moving and removing

    def rename(self, target: GuardedPath) -> None:
        """Move a file or folder to another path below the same root; a file at that path is replaced."""
        with self._reached() as (old, source), target._reached() as (new, aim), self.named():
            if DESCRIPTORS:
                os.replace(old, new, src_dir_fd=source["dir_fd"], dst_dir_fd=aim["dir_fd"])
            else:
                os.replace(old, new)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file, or a link itself."""
        try:
            with self._reached() as (name, at), self.named():
                os.unlink(name, **at)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove a file, a link itself, or a folder with its contents; do nothing if the path does not exist."""
        with contextlib.suppress(FileNotFoundError), self._reached() as (name, at), self.named():
            if not stat.S_ISDIR(os.stat(name, follow_symlinks=False, **at).st_mode):
                os.unlink(name, **at)
                return
            try:
                shutil.rmtree(name, **at)
            except RecursionError:
                raise EstbenchError(f"'{self}' has too many nested folders; remove it by hand") from None

    # Calls of the system

    @contextlib.contextmanager
    def entered(self, *, make: bool = False) -> Iterator[int | str]:
        """Yield this folder's descriptor, or its checked path on a system without descriptors of folders."""
        if not DESCRIPTORS:
            if make and not self.exists():
                os.makedirs(_check_links(self), exist_ok=True)
            yield _check_links(self)
            return
        with GuardedPath(self.root).named(ReadError):
            folder = os.open(self.root, DIRECTORY)
        try:
            for at, part in enumerate(self.parts):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                step = GuardedPath(self.root, *self.parts[: at + 1])
                inner = step._open_descriptor(part, DIRECTORY | GUARDS, folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a name and the keyword argument with the descriptor of its folder, for a function of ``os``."""
        if not self.parts:
            yield str(self.root), {"dir_fd": None} if DESCRIPTORS else {}
        elif DESCRIPTORS:
            with GuardedPath(self.root, *self.parts[:-1]).entered() as folder:
                yield self.parts[-1], {"dir_fd": folder}
        else:
            yield os.path.join(_check_links(self.parent), self.parts[-1]), {}

    def _open_file(self, flags: int, mode: str) -> Any:
        """Open a regular file; raise ``LinkError`` for a file with a second name if it is opened for writing."""
        guards = GUARDS if self.parts else GUARDS & ~getattr(os, "O_NOFOLLOW", 0)
        with self._reached() as (name, at):
            if not DESCRIPTORS:
                _check_links(self)
            number = self._open_descriptor(name, flags | guards, at.get("dir_fd"))
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            os.close(number)
            raise _irregular_error(self, status.st_mode)
        if flags & os.O_RDWR and status.st_nlink > 1:
            os.close(number)
            raise LinkError(f"'{self}' has a second name elsewhere (a hard link), which would be changed; remove it")
        return os.fdopen(number, mode)

    def _open_descriptor(self, name: str, flags: int, folder: int | None) -> int:
        """Open a descriptor; the error about anything but a regular file says what it is."""
        try:
            return os.open(name, flags, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in IRREGULAR:
                with contextlib.suppress(OSError):
                    kind = os.stat(name, dir_fd=folder, follow_symlinks=not self.parts).st_mode
                    if not (flags & DIRECTORY == DIRECTORY and stat.S_ISREG(kind)):
                        raise _irregular_error(self, kind) from None
            reading = not flags & (os.O_WRONLY | os.O_RDWR)
            raise self._convert_error(error, ReadError if reading else OSError) from None

    @contextlib.contextmanager
    def named(self, kind: type[OSError] = OSError) -> Iterator[None]:
        """Put the whole path into an error of the system; a fault of the machine becomes an error of this class."""
        try:
            yield
        except OSError as error:
            raise self._convert_error(error, kind) from error

    def _convert_error(self, error: OSError, kind: type[OSError]) -> OSError:
        if error.errno not in FAULTS_OF_THE_MACHINE:
            kind = OSError
        return kind(error.errno, error.strerror, str(self))


def _check_links(path: GuardedPath) -> str:
    """Return the path after a check of each folder below the root, on a system without descriptors of folders."""
    for count in range(len(path.parts)):
        step = GuardedPath(path.root, *path.parts[: count + 1])
        if os.path.islink(step):
            raise _link_error(step)
    return str(path)


def _link_error(path: GuardedPath) -> LinkError:
    return LinkError(f"'{path}' is a symbolic link, and results folders have none; remove it")


def _irregular_error(path: GuardedPath, mode: int) -> EstbenchError:
    if stat.S_ISLNK(mode):
        return _link_error(path)
    remedy = "; remove it" if path.parts else ""
    return DamagedError(f"'{path}' is {KINDS.get(stat.S_IFMT(mode), 'no file')} and no regular file{remedy}")


def guarded(path: str | os.PathLike[str]) -> GuardedPath:
    """Return a guarded path as it is, and any other path as a root, which the user chose."""
    return path if isinstance(path, GuardedPath) else GuardedPath(path)
