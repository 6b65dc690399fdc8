"""Pack the records of results into one archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from estbench.certify.record import certified_parts, shipped_certificates
from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.store.archive import SCHEMAS, TABLES, Archive, write_archive
from estbench.store.files import read_json, schema_header
from estbench.store.folder import ResultsFolder
from estbench.store.homes import is_archive
from estbench.store.merge import load_many, write_results
from estbench.store.results import Results, load
from estbench.store.status import Status
from estbench.store.tables import THROUGHPUT

# The archive that lies in a results folder.
PUBLISHED = "records.zip"
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
    records = {folder: record for folder, record in sorted(results.records.items()) if record["status"] in PACKED}
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
    path = write_archive(out, name, plan, records, tables, certificates_of(results))
    archive = Archive(path)
    return Packed(path, archive.digest, path.stat().st_size, len(records), len(results.plan["cells"]) - len(records))


def unpack_published(folder: ResultsFolder) -> int:
    """Unpack the published records in a results folder without a plan of its own, and return how many runs these are.

    So whoever runs a published experiment computes only what is new. Raises ``EstbenchError`` for a damaged archive.
    """
    published = folder.path / PUBLISHED
    if folder.plan_file.exists() or not published.is_file():
        return 0
    results = load(published)
    write_results(results, folder)
    return len(results.records)


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


def certificates_of(results: Results) -> list[dict[str, Any]]:
    """Return the certificates for the sources that made the numbers of results, as plain data, not yet checked.

    Those of the user's own estimators, whatever their source, and those that ship with estbench.
    """
    found: dict[str, dict[str, Any]] = {}
    labels = {cell["estimator"]["label"] for cell in results.plan["cells"]}
    wanted = {part for label in labels for part in certified_parts(label)}
    for path in (results.path, *results.others):
        for certificate in certificates_in(path):
            if isinstance(certificate, dict) and certificate.get("label") in wanted:
                found.setdefault(certificate["label"], certificate)
    claims = [str((record.get("certificate") or {}).get("fingerprint", "")) for record in results.records.values()]
    sources = {source for claim in claims for source in claim.split("+")}
    for label, shipped in shipped_certificates().items():
        if label in wanted and shipped.fingerprint in sources:
            found.setdefault(label, shipped.model_dump(mode="json", exclude_defaults=True))
    return [found[label] for label in sorted(found)]


def certificates_in(path: Path) -> list[Any]:
    """Return the certificates that lie in a results folder or an archive, as plain data, not yet checked."""
    return Archive(path).certificates if is_archive(path) else _read_all(ResultsFolder(path).certificates)


def _read_all(folder: GuardedPath) -> list[dict[str, Any]]:
    return [read_json(path, "delete it and check again") for path in folder.iterdir() if path.suffix == ".json"]
