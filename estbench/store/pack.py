"""Pack the records of results into one archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.store.archive import SCHEMAS, TABLES, Archive, write_archive
from estbench.store.files import read_json, schema_header
from estbench.store.folder import ResultsFolder
from estbench.store.homes import is_archive
from estbench.store.merge import load_many
from estbench.store.results import Results
from estbench.store.status import Status
from estbench.store.tables import THROUGHPUT

# A run that failed or was stopped says something of the machine it ran on, and nothing of its estimator.
PACKED = (Status.DONE, Status.DIVERGED)


class Packed(NamedTuple):
    """An archive that was written: its path, its digest, its bytes, its runs, and the planned runs that it lacks."""

    path: Path
    digest: str
    size: int
    runs: int
    missing: int


def pack(paths: Sequence[str | Path], out: str | Path, *, pictures: bool = False) -> Packed:
    """Write the records of results folders into one archive.

    Runs that are done or diverged are packed, and no checkpoint. Raises ``EstbenchError`` if there are none, and as
    ``load_many`` does.

    Parameters
    ----------
    paths
        Results folders or archives, which are merged.
    out
        The archive.
    pictures
        Whether the pictures of trained models are packed, too, which take most of the room.

    Examples
    --------
    >>> import tempfile
    >>> import estbench
    >>> experiment = {"estimators": ["reparam"], "problems": ["gaussian_toy"], "training": {"steps": 2}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = estbench.run(experiment, out=f"{folder}/r")
    ...     packed = pack([results.path], f"{folder}/r.zip")
    ...     len(estbench.load(packed.path).cells), packed.missing
    (1, 0)
    """
    results = load_many(paths)
    records = {
        folder: {name: value for name, value in record.items() if name != "error" or value is not None}
        for folder, record in sorted(results.records.items())
        if record["status"] in PACKED
    }
    if not records:
        raise EstbenchError(f"'{results.path}' has no run that is done: there is nothing to pack")
    names = [name for name in TABLES if pictures or name != "pictures.parquet"]
    tables = {name: _table_of_all(results, [*records], name) for name in names}
    rounds = pa.Table.from_pandas(results.throughput, THROUGHPUT, preserve_index=False)
    tables |= {"throughput.parquet": rounds} if len(rounds) else {}
    tables = {name: table for name, table in tables.items() if len(table) or name != "pictures.parquet"}
    head = {name: value for name, value in results.plan.items() if name not in schema_header()}
    plan = {**schema_header(), **head}
    name = str(results.plan["experiment"].get("name", "results"))
    path = write_archive(out, name, plan, records, tables, _own_certificates(results, records.values()))
    archive = Archive(path)
    return Packed(path, archive.digest, path.stat().st_size, len(records), len(results.plan["cells"]) - len(records))


def _table_of_all(results: Results, folders: Sequence[str], name: str) -> pa.Table:
    """Return a table of all cells, with the number of the cell in front."""
    schema = TABLES[name].schema
    tables = []
    for at, folder in enumerate(folders):
        home = results.home(folder)
        if name == "pictures.parquet" and not home.has(name):
            continue
        table = home.table(name, schema)
        tables.append(table.add_column(0, "cell", pa.repeat(pa.scalar(at, pa.int64()), len(table))))
    return pa.concat_tables(tables) if tables else SCHEMAS[name].empty_table()


def _own_certificates(results: Results, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the certificates of the user's own estimators for the sources that the records name."""
    wanted = {str(record.get("certificate", {}).get("fingerprint", "")) for record in records} - {""}
    found: dict[str, dict[str, Any]] = {}
    for path in (results.path, *results.others):
        for certificate in (
            Archive(path).certificates if is_archive(path) else _read_all(ResultsFolder(path).certificates)
        ):
            if isinstance(certificate, dict) and certificate.get("fingerprint") in wanted:
                found.setdefault(str(certificate.get("label")), certificate)
    return [found[label] for label in sorted(found)]


def _read_all(folder: GuardedPath) -> list[dict[str, Any]]:
    return [read_json(path, "delete it and check again") for path in folder.iterdir() if path.suffix == ".json"]
