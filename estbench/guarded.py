"""The one place that opens what lies in a results folder, which may be a stranger's.

The folder that the user names may be reached through links, and may be one: that is the user's own choice. Nothing
below it may. A ``GuardedPath`` is a path below such a root. Each of its steps is taken from the descriptor of the
folder before, and never through a symbolic link, so that nobody can put one in between. Only regular files are opened,
so that a pipe does not hang and a device does not fill the memory. A file that has a second name somewhere (a hard
link) is read and replaced, which leaves the other name as it was, but nothing is ever appended to it.

Where the system knows no such descriptors (Windows), every step is looked at before the path is used: a link is refused
there, too, but not one that is put in place between the two.
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
# How the system says that something is a link, or no file, or no folder.
IRREGULAR = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP}
# A file that is being written; no two processes, on whatever machines, choose the same name.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
# What was changed since may still be in use.
IN_USE_SECONDS = 600
# Folders of a results folder lie three deep.
DEEPEST = 32
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DamagedError(EstbenchError):
    """A file that was cut short, or that is not what it should be; its cell can be computed again."""


class LinkError(EstbenchError):
    """Something below a results folder that could lead out of it."""


@functools.total_ordering
class GuardedPath:
    """A path below a root: ``GuardedPath(root) / "cells" / name``. Reads, writes and removes without following links.

    The methods are those of ``pathlib.Path`` where they have the same name, except that they are safe, that files are
    written whole or not at all, and that the size of what is read is bounded.
    """

    __slots__ = ("parts", "root")

    def __init__(self, root: str | os.PathLike[str], *parts: str) -> None:
        self.root = Path(root)
        self.parts: tuple[str, ...] = parts

    def __truediv__(self, name: str) -> GuardedPath:
        steps = str(name).split("/")
        if any(step in {"", ".", ".."} or "\0" in step or (os.sep != "/" and os.sep in step) for step in steps):
            raise EstbenchError(f"{str(name)!r} is no name of a file in '{self}'")
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
        """The last part without its ending."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the last part."""
        return Path(self.name).suffix

    @property
    def parent(self) -> GuardedPath:
        """The folder that this is in; of the root, the root's own."""
        return GuardedPath(self.root, *self.parts[:-1]) if self.parts else GuardedPath(self.root.parent)

    # What is there

    def stat(self) -> os.stat_result:
        """Size, dates and kind; a symbolic link is refused."""
        with self._reached() as (name, at), self.named(ReadError):
            found = os.stat(name, follow_symlinks=not self.parts, **at)
        if stat.S_ISLNK(found.st_mode):
            raise _link(self)
        return found

    def exists(self) -> bool:
        """Whether anything is there; a symbolic link is refused."""
        try:
            self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_file(self) -> bool:
        """Whether a regular file is there; a symbolic link is refused."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def is_dir(self) -> bool:
        """Whether a folder is there; a symbolic link is refused."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def names(self) -> list[str]:
        """What is in this folder, links among it; nothing if there is no such folder."""
        try:
            with self.entered() as place, self.named(ReadError):
                return sorted(os.listdir(place))
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise DamagedError(f"'{error.filename}' is a file and no folder; remove it") from None

    def iterdir(self) -> Iterator[GuardedPath]:
        """The contents of this folder in the order of their names; what is a link is refused when it is used."""
        return (GuardedPath(self.root, *self.parts, name) for name in self.names())

    def walk(self) -> Iterator[tuple[GuardedPath, os.stat_result]]:
        """The path and all that is in it; links are listed and not followed, and what has just gone is passed over."""
        if len(self.parts) > DEEPEST:
            raise EstbenchError(
                f"'{self.root}' has folders in folders, more than {DEEPEST} deep; remove '{self.parts[0]}'"
            )
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with self._reached() as (name, at), self.named(ReadError):
                found = os.stat(name, follow_symlinks=not self.parts, **at)
            yield self, found
            if stat.S_ISDIR(found.st_mode):
                for each in self.iterdir():
                    yield from each.walk()

    # Reading

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file, for reading its bytes."""
        if mode != "rb":
            raise ValueError(f"a guarded file is opened for reading bytes, not {mode!r}")
        file: IO[bytes] = self._file(os.O_RDONLY, "rb")
        return file

    def read_bytes(self, limit: Limit = TEXT_BYTES) -> bytes:
        """The content, if it is not larger than the limit."""
        with self.open() as file, self.named(ReadError):
            limit.check(os.fstat(file.fileno()).st_size, self)
            content = file.read(limit.value + 1)  # it may grow meanwhile
        limit.check(len(content), self)
        return content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict", limit: Limit = TEXT_BYTES) -> str:
        """The content as text."""
        return self.read_bytes(limit).decode(encoding, errors)

    def read_end(self, size: int) -> bytes:
        """The last bytes of the content; of a small file, all of it."""
        with self.open() as file, self.named(ReadError):
            file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
            return file.read(size)

    # Writing

    def mkdir(self) -> None:
        """Make this folder and those that it is in, where they are missing."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.entered(make=True):
            pass

    @contextlib.contextmanager
    def replaced(self) -> Iterator[IO[bytes]]:
        """A file to write into, which takes the place of this one when it is whole and on disk."""
        temporary = self.parent / f".{self.name}.{secrets.token_hex(8)}.tmp"
        with self.parent.entered(make=True) as place, self.named():
            self._sweep(place)
            written = temporary.name if DESCRIPTORS else str(temporary)
            at = {"dir_fd": place} if DESCRIPTORS else {}
            number = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | GUARDS, 0o666, **at)  # type: ignore[arg-type]
            try:
                with os.fdopen(number, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                if DESCRIPTORS:
                    os.replace(written, self.name, src_dir_fd=place, dst_dir_fd=place)  # type: ignore[arg-type]
                    with contextlib.suppress(OSError):  # some file systems cannot; the file itself is on disk
                        os.fsync(place)  # type: ignore[arg-type]
                else:
                    os.replace(written, _checked(self))
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.unlink(written, **at)  # type: ignore[arg-type]
                if isinstance(error, IsADirectoryError):
                    raise _irregular(self, stat.S_IFDIR) from None
                raise

    def _sweep(self, place: int | str) -> None:
        """Remove what a writer of this file that was killed has left in its folder; a newer one may be at work."""
        for name in os.listdir(place):
            if TEMPORARY.fullmatch(name) and name.startswith(f".{self.name}.") and len(name) == len(self.name) + 22:
                left = self.parent / name
                with contextlib.suppress(OSError, LinkError):
                    if left.stat().st_mtime < time.time() - IN_USE_SECONDS:
                        left.unlink()

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Write a file, all or nothing."""
        with self.replaced() as file:
            file.write(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write a text file, all or nothing; half of a surrogate pair, which no file can hold, becomes its number."""
        self.write_bytes(text.encode(encoding, "backslashreplace"))

    def appended(self) -> IO[str]:
        """The text file, made if it is not there, for reading and for adding to its end."""
        return io.TextIOWrapper(
            self._file(os.O_RDWR | os.O_APPEND | os.O_CREAT, "ab+"), encoding="utf-8", errors="backslashreplace"
        )

    def claimed(self) -> IO[str]:
        """A new text file; raise ``FileExistsError`` if there is anything of this name."""
        return io.TextIOWrapper(self._file(os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, "ab+"), encoding="utf-8")

    def copy(self, target: GuardedPath, limit: Limit) -> None:
        """Copy the content to another place, if it is not larger than the limit."""
        with self.open() as source, target.replaced() as copied:
            limit.check(os.fstat(source.fileno()).st_size, self)
            shutil.copyfileobj(source, copied, 2**20)

    # Moving and removing

    def rename(self, target: GuardedPath) -> None:
        """Move a file or folder to another place below the same root, over a file that is there."""
        with self._reached() as (old, source), target._reached() as (new, aim), self.named():
            if DESCRIPTORS:
                os.replace(old, new, src_dir_fd=source["dir_fd"], dst_dir_fd=aim["dir_fd"])
            else:
                os.replace(old, new)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file; of a link, the link itself."""
        try:
            with self._reached() as (name, at), self.named():
                os.unlink(name, **at)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove a file, a link itself, or a folder with all that is in it; nothing happens if there is nothing."""
        with contextlib.suppress(FileNotFoundError), self._reached() as (name, at), self.named():
            if not stat.S_ISDIR(os.stat(name, follow_symlinks=False, **at).st_mode):
                os.unlink(name, **at)
                return
            try:
                shutil.rmtree(name, **at)
            except RecursionError:
                raise EstbenchError(f"'{self}' has folders in folders without end; remove it by hand") from None

    # How the system is asked

    @contextlib.contextmanager
    def entered(self, *, make: bool = False) -> Iterator[int | str]:
        """The folder as the system reaches it: its descriptor, or a path each step of which was looked at."""
        if not DESCRIPTORS:
            if make and not self.exists():
                os.makedirs(_checked(self), exist_ok=True)
            yield _checked(self)
            return
        with GuardedPath(self.root).named(ReadError):
            place = os.open(self.root, DIRECTORY)
        try:
            for at, part in enumerate(self.parts):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=place)
                step = GuardedPath(self.root, *self.parts[: at + 1])
                inner = step._opened(part, DIRECTORY | GUARDS, place)
                os.close(place)
                place = inner
            yield place
        finally:
            os.close(place)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The entry as the system reaches it: a name, and the descriptor of the folder that it is in."""
        if not self.parts:
            yield str(self.root), {"dir_fd": None} if DESCRIPTORS else {}
        elif DESCRIPTORS:
            with GuardedPath(self.root, *self.parts[:-1]).entered() as place:
                yield self.parts[-1], {"dir_fd": place}
        else:
            yield os.path.join(_checked(self.parent), self.parts[-1]), {}

    def _file(self, flags: int, mode: str) -> Any:
        """A regular file as Python's own object; one that is written to has no second name."""
        guards = GUARDS if self.parts else GUARDS & ~getattr(os, "O_NOFOLLOW", 0)
        with self._reached() as (name, at):
            if not DESCRIPTORS:
                _checked(self)
            number = self._opened(name, flags | guards, at.get("dir_fd"))
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            os.close(number)
            raise _irregular(self, found.st_mode)
        if flags & os.O_RDWR and found.st_nlink > 1:
            os.close(number)
            raise LinkError(f"'{self}' has a second name elsewhere (a hard link), which would be changed; remove it")
        return os.fdopen(number, mode)

    def _opened(self, name: str, flags: int, place: int | None) -> int:
        """A descriptor; what is no regular file is named as what it is."""
        try:
            return os.open(name, flags, 0o666, dir_fd=place)
        except OSError as error:
            if error.errno in IRREGULAR:
                with contextlib.suppress(OSError):
                    kind = os.stat(name, dir_fd=place, follow_symlinks=not self.parts).st_mode
                    if not (flags & DIRECTORY == DIRECTORY and stat.S_ISREG(kind)):
                        raise _irregular(self, kind) from None
            reading = not flags & (os.O_WRONLY | os.O_RDWR)
            raise self._fault(error, ReadError if reading else OSError) from None

    @contextlib.contextmanager
    def named(self, kind: type[OSError] = OSError) -> Iterator[None]:
        """Name the whole path in an error of the system; a fault of the machine becomes one of this kind."""
        try:
            yield
        except OSError as error:
            raise self._fault(error, kind) from error

    def _fault(self, error: OSError, kind: type[OSError]) -> OSError:
        if error.errno not in FAULTS_OF_THE_MACHINE:
            kind = OSError
        return kind(error.errno, error.strerror, str(self))


def _checked(path: GuardedPath) -> str:
    """The path, after a look at each of its steps below the root: what is left where there are no descriptors."""
    for count in range(len(path.parts)):
        step = GuardedPath(path.root, *path.parts[: count + 1])
        if os.path.islink(step):
            raise _link(step)
    return str(path)


def _link(path: GuardedPath) -> LinkError:
    return LinkError(f"'{path}' is a symbolic link, and results folders have none; remove it")


def _irregular(path: GuardedPath, mode: int) -> EstbenchError:
    if stat.S_ISLNK(mode):
        return _link(path)
    remedy = "; remove it" if path.parts else ""
    return DamagedError(f"'{path}' is {KINDS.get(stat.S_IFMT(mode), 'no file')} and no regular file{remedy}")


def guarded(path: str | os.PathLike[str]) -> GuardedPath:
    """A path as it is, or one that the user named: where that leads is the user's own choice."""
    return path if isinstance(path, GuardedPath) else GuardedPath(path)
