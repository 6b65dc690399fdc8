"""The files that datasets are made from: their place on this machine, and the check of their content.

They are in the folder ``ESTBENCH_DATA_DIR``, or in the user's cache if that is not set. The folder may be read-only and
filled by somebody else: nothing is written if the files are there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import platformdirs

from estbench.errors import EstbenchError
from estbench.guarded import DamagedError, GuardedPath
from estbench.limits import DATA_BYTES

DATA_DIR = "ESTBENCH_DATA_DIR"


class DataFile(NamedTuple):
    """A file by its name below the data folder, with its digest and its sources.

    The digest is ``sha256:...``, ``md5:...``, or ``git:...`` for the hash of a git blob.
    """

    name: str
    digest: str
    urls: tuple[str, ...]
    size: int | None = None  # in bytes; None if it is not known

    @property
    def path(self) -> Path:
        """The place of the file on this machine."""
        return data_folder() / self.name

    def accepts(self, content: bytes) -> bool:
        """Whether ``content`` has the file's digest."""
        kind, _, expected = self.digest.partition(":")
        if kind == "git":
            return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == expected
        return hashlib.new(kind, content, usedforsecurity=False).hexdigest() == expected

    def read(self) -> bytes:
        """Return the checked content; raise ``EstbenchError`` if the file is missing or has another digest."""
        dataset = self.name.split("/")[0]
        remedy = f"run `estbench data fetch`, or set {DATA_DIR} to a folder that has it (mnist5k and digits need none)"
        try:
            path = self.path.resolve()  # a link in the data folder was made by the user, and is followed
            content = (GuardedPath(path.parent) / path.name).read_bytes(DATA_BYTES)
        except FileNotFoundError:
            raise EstbenchError(f"there is no {self.name} in '{data_folder()}'; {remedy}") from None
        except OSError as error:
            raise EstbenchError(f"cannot read '{self.path}': {error.strerror}; {remedy}") from None
        except DamagedError as error:
            raise EstbenchError(f"{error}; remove it and {remedy}") from None
        if not self.accepts(content):
            raise EstbenchError(
                f"'{self.path}' is not the file of {dataset} with this name: its digest is not {self.digest}; "
                f"remove it and {remedy}"
            )
        return content

    def state(self) -> str:
        """Return ``verified``, ``missing`` or ``damaged``."""
        if not self.path.exists():
            return "missing"
        try:
            self.read()
        except EstbenchError:
            return "damaged"
        return "verified"


def gunzipped(content: bytes, most: int) -> bytes:
    """Unpack gzip, at most one byte more than ``most``; raise ``OSError``, ``EOFError`` or ``zlib.error``."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        return packed.read(most + 1)


def data_folder() -> Path:
    """Return the folder of the files, which may not exist yet."""
    chosen = os.environ.get(DATA_DIR)
    return Path(chosen) if chosen else platformdirs.user_cache_path("estbench")


@cache
def known_files() -> dict[str, DataFile]:
    """Return every file of ``files.toml`` by its name."""
    listed = tomllib.loads(resources.files(__package__).joinpath("files.toml").read_text(encoding="utf-8"))
    return {
        name: DataFile(name, entry["digest"], tuple(entry["urls"]), entry.get("bytes"))
        for name, entry in listed.items()
    }


def files(names: Iterable[str]) -> list[DataFile]:
    """Return the files with these names; raise ``EstbenchError`` if one is unknown."""
    known = known_files()
    chosen = list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise EstbenchError(f"unknown data file '{unknown[0]}'; register a dataset of your own without files")
    return [known[name] for name in chosen]
