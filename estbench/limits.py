"""How much is read of what may come from a stranger: sizes are looked at before they are believed.

A limit that is hit is one line: what was found, what is allowed, and the environment variable that raises it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from estbench.errors import EstbenchError

PREFIX = "ESTBENCH_MAX_"


class TooLargeError(EstbenchError):
    """More than is read; no damage, because the user may allow it."""


@dataclass(frozen=True)
class Limit:
    """At most so much of something; ``name`` is that of the environment variable without its beginning."""

    name: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """The limit, or what the environment says instead."""
        text = os.environ.get(PREFIX + self.name, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise EstbenchError(f"{PREFIX}{self.name} takes a whole number of {self.unit}, not '{text[:40]}'")
        return int(text)

    def check(self, found: int, what: object) -> None:
        """Refuse more than the limit; ``what`` is the file."""
        if found > self.value:
            raise TooLargeError(
                f"cannot read '{what}': it has {found:,} {self.unit}, and at most {self.value:,} are read; "
                f"if you trust it, set {PREFIX}{self.name} to more"
            )


class Budget:
    """A limit over many files together."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.spent = 0

    def spend(self, size: int, what: object) -> None:
        """Count one of them, and refuse it where there is no room left."""
        self.spent += size
        self.limit.check(self.spent, what)


# A plan of 100,000 cells has 25 MB, and 800,000 parts; the objects of a part take 72 bytes and more.
JSON_BYTES = Limit("JSON_BYTES", 48 * 2**20, "bytes")
JSON_PARTS = Limit("JSON_PARTS", 1_500_000, "parts")
# A cell's record has 5 kB; the rest is for the message and the traceback of what failed.
RECORD_BYTES = Limit("RECORD_BYTES", 2**20, "bytes")
RECORD_PARTS = Limit("RECORD_PARTS", 20_000, "parts")
# What all records, and all tables of a kind, of one folder take in memory; a cell's ordinary record takes 16 kB.
RECORDS_BYTES = Limit("RECORDS_BYTES", 2**28, "bytes in memory")
TABLES_BYTES = Limit("TABLES_BYTES", 96 * 2**20, "bytes in memory")
# Experiments, cards, SLURM files: written by hand.
TOML_BYTES = Limit("TOML_BYTES", 2**18, "bytes")
# Logs, event files and whatever else is read whole.
TEXT_BYTES = Limit("TEXT_BYTES", 64 * 2**20, "bytes")
# A table on disk. What it unpacks to is bounded by its codec, and by its rows.
TABLE_BYTES = Limit("TABLE_BYTES", 12 * 2**20, "bytes")
TABLE_ROWS = Limit("TABLE_ROWS", 500_000, "rows")
# Files of datasets: as they are, of those whose size is not known, and when they are unpacked.
DATA_BYTES = Limit("DATA_BYTES", 2**28, "bytes")
UNPACKED_BYTES = Limit("UNPACKED_BYTES", 2**30, "unpacked bytes")
# A download that takes longer is given up.
DOWNLOAD_SECONDS = Limit("DOWNLOAD_SECONDS", 1800, "seconds")
# What `merge` copies of one file.
COPY_BYTES = Limit("COPY_BYTES", 8 * 2**30, "bytes")
