"""One file with the records of a results folder, to be published: what ``estbench pack`` writes.

A zip file that stores its members as they are, so that a reader finds each at its place:

- ``manifest.json``: name, format, counts, and the SHA-256 of every other member;
- ``experiment.json``: the plan;
- ``records.parquet``: the folder and the record (``cell.json``) of every cell, as text;
- ``curves.parquet``, ``gradients.parquet``, ``pictures.parquet``: the tables of all cells, ``cell`` being a row of the
  records;
- ``throughput.parquet``; ``certificates.json``: those of the user's own estimators.

Tables are compressed by zstd. The same records give the same bytes, whoever packs them with the same versions. An
archive comes from a stranger: sizes and digests are checked before anything is used, and no name in it becomes a path.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from estbench.errors import EstbenchError
from estbench.guarded import DamagedError, guarded
from estbench.limits import ARCHIVE_BYTES, RECORDS_BYTES, Budget
from estbench.store.columns import CURVES, GRADIENTS, INTEGER, PICTURES, TEXT, THROUGHPUT, RecordedTable
from estbench.store.files import encoded, parse_json, schema_header
from estbench.store.tables import packed, read_packed

FORMAT = 1
SUFFIX = ".zip"
MANIFEST, PLAN, RECORDS, CERTIFICATES = "manifest.json", "experiment.json", "records.parquet", "certificates.json"
CELL = pa.field("cell", INTEGER)
TABLES: dict[str, RecordedTable] = {
    "curves.parquet": CURVES,
    "gradients.parquet": GRADIENTS,
    "pictures.parquet": PICTURES,
}
SCHEMAS = {name: pa.schema([CELL, *table.schema]) for name, table in TABLES.items()}
SCHEMAS |= {RECORDS: pa.schema([("folder", TEXT), ("record", TEXT)]), "throughput.parquet": THROUGHPUT.schema}
MEMBERS = (MANIFEST, PLAN, *SCHEMAS, CERTIFICATES)
NEEDED = {MANIFEST, PLAN, RECORDS, "curves.parquet", "gradients.parquet"}
# A zip file has no time before this one, and ours have no other.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Archive:
    """The content of an archive, checked when it is opened; tables are read when they are first asked for.

    Raises
    ------
    EstbenchError
        If the file is no archive, is damaged, has other content than its manifest says, or is over a limit.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        content = guarded(path).read_bytes(ARCHIVE_BYTES)
        self.digest = hashlib.sha256(content).hexdigest()
        self.members = _read_members(content, path)
        self.manifest = self._json(MANIFEST)
        if (given := self.manifest.get("format")) != FORMAT:
            raise EstbenchError(f"'{path}' has format {given!r}, and this estbench reads format {FORMAT}; upgrade it")
        self._check_digests()

    def _check_digests(self) -> None:
        listed = self.manifest.get("files")
        if not isinstance(listed, dict) or set(listed) != set(self.members) - {MANIFEST}:
            raise DamagedError(f"'{self.path}' does not hold the files that its manifest lists; get it again")
        for name, digest in listed.items():
            if hashlib.sha256(self.members[name]).hexdigest() != digest:
                raise DamagedError(f"'{self.path}': {name} is not what the manifest says it is; get it again")

    @functools.cached_property
    def plan(self) -> dict[str, Any]:
        """The plan as it was recorded, not yet checked."""
        return self._json(PLAN)

    @functools.cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each cell by the name of its folder, in the order of the rows; not yet checked."""
        table = self.table(RECORDS)
        folders, texts = (table.column(name).to_pylist() for name in ("folder", "record"))
        if len(set(folders)) != len(folders):
            raise DamagedError(f"'{self.path}' has two records of one cell; get it again")
        budget = Budget(RECORDS_BYTES)
        return {
            folder: parse_json(text.encode(), f"{self.path}: the record of {folder}", budget)
            for folder, text in zip(folders, texts, strict=True)
        }

    def table(self, name: str) -> pa.Table:
        """Return a table of all cells; an empty one if the archive has none."""
        if name not in self.members:
            return SCHEMAS[name].empty_table()
        return read_packed(self.members[name], f"{self.path}: {name}", SCHEMAS[name])

    def cell_table(self, folder: str, name: str) -> pa.Table:
        """Return the rows of one cell in a table, in its recorded columns."""
        table, starts = self._by_cell(name)
        at = self._places[folder]
        return table.slice(starts[at], starts[at + 1] - starts[at])

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {folder: at for at, folder in enumerate(self.records)}

    @functools.lru_cache(maxsize=8)  # noqa: B019  (an archive lives as long as its results)
    def _by_cell(self, name: str) -> tuple[pa.Table, list[int]]:
        """Return a table without its column ``cell``, and where each cell begins in it."""
        table = self.table(name)
        cells = table.column("cell").to_numpy()
        if len(cells) and ((np.diff(cells) < 0).any() or cells[0] < 0 or cells[-1] >= len(self.records)):
            raise DamagedError(f"'{self.path}': {name} is not in the order of the records; get it again")
        starts = np.searchsorted(cells, np.arange(len(self.records) + 1)).tolist()
        return table.drop_columns(["cell"]), starts

    @functools.cached_property
    def certificates(self) -> list[Any]:
        """The certificates of the estimators that are no part of estbench, as plain data, not yet checked."""
        listed = self._json(CERTIFICATES).get("certificates", []) if CERTIFICATES in self.members else []
        return listed if isinstance(listed, list) else []

    def _json(self, name: str) -> dict[str, Any]:
        return parse_json(self.members[name], f"{self.path}: {name}")


def write_archive(
    path: str | PathLike[str],
    name: str,
    plan: dict[str, Any],
    records: dict[str, dict[str, Any]],
    tables: dict[str, pa.Table],
    certificates: list[dict[str, Any]],
) -> Path:
    """Write an archive, completely or not at all, and return its path.

    Parameters
    ----------
    name
        The name of the experiment.
    plan, records
        As in a results folder; the records by the names of their folders.
    tables
        The tables of ``SCHEMAS`` but the records, each with its rows in the order of the records.
    certificates
        Certificates of the user's own estimators.
    """
    members = {PLAN: _as_json(plan)}
    records = dict(sorted(records.items()))
    texts = [json.dumps(record, sort_keys=True, allow_nan=False) for record in records.values()]
    every = {RECORDS: pa.table({"folder": [*records], "record": texts}, SCHEMAS[RECORDS]), **tables}
    members |= {each: packed(every[each].cast(SCHEMAS[each])) for each in SCHEMAS if each in every}
    if certificates:
        members[CERTIFICATES] = _as_json({"certificates": certificates})
    digests = {each: hashlib.sha256(content).hexdigest() for each, content in members.items()}
    manifest = {"format": FORMAT, **schema_header(), "name": name, "runs": len(records), "files": digests}
    members = {MANIFEST: _as_json(manifest), **members}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        for each in MEMBERS:
            if each in members:
                zipped.writestr(zipfile.ZipInfo(each, EPOCH), members[each])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    guarded(path).write_bytes(file.getbuffer())
    return Path(path)


def _as_json(data: dict[str, Any]) -> bytes:
    return encoded(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _read_members(content: bytes, path: str | PathLike[str]) -> dict[str, bytes]:
    """Return the members by name; refuse a zip file that ``write_archive`` did not write."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as zipped:
            listed = zipped.infolist()
            names = [each.filename for each in listed]
            if not set(names) <= set(MEMBERS) or len(set(names)) < len(names):
                unknown = sorted({*names} - {*MEMBERS})
                what = f"a file {unknown[0][:80]!r}, which no archive has" if unknown else "two files of one name"
                raise DamagedError(f"'{path}' holds {what}; get it again from where it comes")
            if any(each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1 for each in listed):
                raise DamagedError(f"'{path}' has compressed or encrypted files, which no archive has; get it again")
            if missing := NEEDED - {*names}:
                raise DamagedError(f"'{path}' lacks {', '.join(sorted(missing))}; get it again from where it comes")
            if sum(each.file_size for each in listed) > len(content):
                raise DamagedError(f"'{path}' claims to hold more than it has; get it again from where it comes")
            return {each.filename: zipped.read(each) for each in listed}
    except (zipfile.BadZipFile, EOFError, LookupError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(
            f"cannot read '{path}': it is no results folder, and no archive of `estbench pack` ({reason})"
        ) from None
