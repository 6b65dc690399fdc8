"""Limits on the size of files that may come from a stranger: checked before a file is read.

The message about a file over its limit gives its size, the limit, and the environment variable that raises it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from estbench.errors import EstbenchError

PREFIX = "ESTBENCH_MAX_"


class TooLargeError(EstbenchError):
    """A file over its limit. It is not damaged: the user may raise the limit."""


@dataclass(frozen=True)
class Limit:
    """An upper limit; ``name`` is that of its environment variable without ``ESTBENCH_MAX_``."""

    name: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The limit: the value of the environment variable, or the default."""
        text = os.environ.get(PREFIX + self.name, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise EstbenchError(f"{PREFIX}{self.name} takes a whole number of {self.unit}, not '{text[:40]}'")
        return int(text)

    def check(self, size: int, what: object) -> None:
        """Raise ``TooLargeError`` if ``size`` is over the limit; ``what`` is the file, for the message."""
        if size > self.value:
            raise TooLargeError(
                f"cannot read '{what}': it has {size:,} {self.unit}, and the limit is {self.value:,}; "
                f"if you trust it, set {PREFIX}{self.name} to more"
            )


class Budget:
    """A limit on the sum over many files."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.spent = 0

    def spend(self, size: int, what: object) -> None:
        """Add the size of a file; raise ``TooLargeError`` if the sum is over the limit."""
        self.spent += size
        self.limit.check(self.spent, what)


# A plan of 10,000 cells has 10 MB and 530,000 parts; as a Python object, a part takes 72 bytes and more.
JSON_BYTES = Limit("JSON_BYTES", 48 * 2**20, "bytes")
JSON_PARTS = Limit("JSON_PARTS", 1_500_000, "parts")
# A cell's record has 5 kB; the rest is for the message and the traceback of a failure.
RECORD_BYTES = Limit("RECORD_BYTES", 2**20, "bytes")
RECORD_PARTS = Limit("RECORD_PARTS", 20_000, "parts")
# All records of a folder, and all its tables of one kind, in memory; the record of a usual cell takes 16 kB.
RECORDS_BYTES = Limit("RECORDS_BYTES", 2**28, "bytes in memory")
TABLES_BYTES = Limit("TABLES_BYTES", 96 * 2**20, "bytes in memory")
# Experiments, cards and SLURM files, which are written by hand.
TOML_BYTES = Limit("TOML_BYTES", 2**18, "bytes")
# Logs, event files and other files that are read at once.
TEXT_BYTES = Limit("TEXT_BYTES", 64 * 2**20, "bytes")
# A table on disk. In memory it is bounded by its codec and by its rows.
TABLE_BYTES = Limit("TABLE_BYTES", 12 * 2**20, "bytes")
TABLE_ROWS = Limit("TABLE_ROWS", 500_000, "rows")
# Files of datasets: as they are downloaded, if their size is not known, and unpacked.
DATA_BYTES = Limit("DATA_BYTES", 2**28, "bytes")
UNPACKED_BYTES = Limit("UNPACKED_BYTES", 2**30, "unpacked bytes")
# A download that takes longer is stopped.
DOWNLOAD_SECONDS = Limit("DOWNLOAD_SECONDS", 1800, "seconds")
# An archive of results, and its tables and texts when they are unpacked.
ARCHIVE_BYTES = Limit("ARCHIVE_BYTES", 64 * 2**20, "bytes")
UNPACKED_ARCHIVE_BYTES = Limit("UNPACKED_ARCHIVE_BYTES", 96 * 2**20, "unpacked bytes")
ARCHIVE_ROWS = Limit("ARCHIVE_ROWS", 1_000_000, "rows")
# A file that `estbench merge` copies.
COPY_BYTES = Limit("COPY_BYTES", 8 * 2**30, "bytes")
