"""Where the tables of a cell are: in a folder of its own, or in an archive with those of all other cells."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from estbench.guarded import GuardedPath
from estbench.limits import COPY_BYTES
from estbench.store.archive import TABLES, Archive
from estbench.store.files import write_json
from estbench.store.folder import ResultsFolder
from estbench.store.tables import THROUGHPUT, read_arrow, write_arrow


class Home(Protocol):
    """Where the tables of one cell are; as text, the place for messages."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the file that they are in; empty for a folder."""

    def has(self, name: str) -> bool:
        """Whether the cell has a table."""

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """Return a table of the cell; raise ``EstbenchError`` if it cannot be read."""

    def copy(self, target: GuardedPath) -> None:
        """Write the cell's files into a new folder."""


@dataclass(frozen=True)
class FolderHome:
    """A folder of the cell's own."""

    folder: GuardedPath

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def digest(self) -> str:
        """Empty: a folder has no digest."""
        return ""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.folder / name).exists()

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """Return what the file holds."""
        return read_arrow(self.folder / name, schema)

    def copy(self, target: GuardedPath) -> None:
        """Copy the files; a link is refused, because it could lead to any file of this machine."""
        target.mkdir()
        for file in self.folder.iterdir():
            if not file.is_dir():
                file.copy(target / file.name, COPY_BYTES)


@dataclass(frozen=True)
class ArchiveHome:
    """The rows of a cell in an archive."""

    archive: Archive
    cell: str

    def __str__(self) -> str:
        return f"{self.archive.path}: {self.cell}"

    @property
    def digest(self) -> str:
        """The SHA-256 of the archive."""
        return self.archive.digest

    def has(self, name: str) -> bool:
        """Whether the table has rows of the cell."""
        return len(self.archive.cell_table(self.cell, name)) > 0

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """Return the rows of the cell."""
        return self.archive.cell_table(self.cell, name).select(schema.names)

    def copy(self, target: GuardedPath) -> None:
        """Write files as a run would have left them."""
        target.mkdir()
        for name, recorded in TABLES.items():
            if name != "pictures.parquet" or self.has(name):
                write_arrow(target / name, self.table(name, recorded.schema))
        record: dict[str, Any] = self.archive.records[self.cell]
        write_json(target / "cell.json", record)


def is_archive(path: str | PathLike[str]) -> bool:
    """Whether a path is a file, and so no results folder."""
    return Path(path).is_file()


def report_folder(path: Path) -> GuardedPath:
    """Return where the report of results is written: in their folder, or in one beside their archive."""
    return ResultsFolder(path.with_suffix("") if is_archive(path) else path).report


def rounds_of(path: Path) -> pa.Table | None:
    """Return the timed rounds of a results folder or of an archive; None if it has none."""
    if is_archive(path):
        table = Archive(path).table("throughput.parquet")
        return table if len(table) else None
    file = ResultsFolder(path).throughput_file
    return read_arrow(file, THROUGHPUT) if file.exists() else None
