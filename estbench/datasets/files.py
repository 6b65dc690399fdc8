"""The files that datasets are made from: where they are on this machine, and whether they are what they should be.

They are looked for under ``ESTBENCH_DATA_DIR``, or in the user's cache where that is not set. A folder that was filled
by somebody else, or that may only be read, is as good as any: nothing is written where the files are there.
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

from estbench.errors import EstbenchError
from estbench.guarded import DamagedError, GuardedPath
from estbench.limits import DATA_BYTES

DATA_DIR = "ESTBENCH_DATA_DIR"


class DataFile(NamedTuple):
    """A file by its name below the data folder, with its digest and its sources."""

    name: str
    digest: str
    urls: tuple[str, ...]
    size: int | None = None  # bytes, where it is known

    @property
    def path(self) -> Path:
        """Where it belongs on this machine."""
        return data_folder() / self.name

    def accepts(self, content: bytes) -> bool:
        """Whether this is the file's content."""
        kind, _, expected = self.digest.partition(":")
        if kind == "git":
            return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == expected
        return hashlib.new(kind, content, usedforsecurity=False).hexdigest() == expected

    def read(self) -> bytes:
        """The content, checked; what is missing or is something else is an error that says how to get it."""
        dataset = self.name.split("/")[0]
        remedy = f"run `estbench data fetch`, or set {DATA_DIR} to a folder that has it (mnist5k and digits need none)"
        try:
            place = self.path.resolve()  # a link in the user's own data folder is the user's choice
            content = (GuardedPath(place.parent) / place.name).read_bytes(DATA_BYTES)
        except FileNotFoundError:
            raise EstbenchError(f"there is no {self.name} in '{data_folder()}'; {remedy}") from None
        except OSError as error:
            raise EstbenchError(f"cannot read '{self.path}': {error.strerror}; {remedy}") from None
        except DamagedError as error:
            raise EstbenchError(f"{error}; remove it and {remedy}") from None
        if not self.accepts(content):
            raise EstbenchError(
                f"'{self.path}' is not the {dataset} file that it should be: its digest is not {self.digest}; "
                f"remove it and {remedy}"
            )
        return content

    def state(self) -> str:
        """``verified``, ``missing``, or what is wrong."""
        if not self.path.exists():
            return "missing"
        try:
            self.read()
        except EstbenchError:
            return "damaged"
        return "verified"


def gunzipped(content: bytes, most: int) -> bytes:
    """Unpack gzip, up to one byte more than ``most``; raises what a broken stream raises."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        return packed.read(most + 1)


def data_folder() -> Path:
    """Where the files are, or will be."""
    chosen = os.environ.get(DATA_DIR)
    if chosen:
        return Path(chosen)
    import pooch  # noqa: PLC0415  (it is asked only where nothing was chosen)

    return Path(pooch.os_cache("estbench"))


@cache
def known_files() -> dict[str, DataFile]:
    """Every file by its name."""
    listed = tomllib.loads(resources.files(__package__).joinpath("files.toml").read_text(encoding="utf-8"))
    return {
        name: DataFile(name, entry["digest"], tuple(entry["urls"]), entry.get("bytes"))
        for name, entry in listed.items()
    }


def files(names: Iterable[str]) -> list[DataFile]:
    """Some of them, in the given order."""
    known = known_files()
    chosen = list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise EstbenchError(f"estbench knows no file '{unknown[0]}'; a card of your own dataset takes no files")
    return [known[name] for name in chosen]
