"""The columns of the Parquet files; rows are plain dictionaries until they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from estbench.store.files import DamagedError, atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A Parquet file begins and ends with it.
MAGIC = b"PAR1"

# One row per step, split and metric. ``seconds`` is training time alone; ``value`` is mean nats per example for
# ``elbo`` and ``iwae``.
CURVES = pa.schema(
    [
        ("step", pa.int64()),
        ("examples", pa.int64()),
        ("evaluations", pa.int64()),
        ("seconds", pa.float64()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)

# One row per checkpoint, space, group and statistic, with the 95 % interval from low to high.
GRADIENTS = pa.schema(
    [
        ("step", pa.int64()),
        ("trajectory", pa.string()),
        ("space", pa.string()),
        ("group", pa.string()),
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("replicates", pa.int64()),
    ]
)

# One row per timed round. ``session`` tells measurements apart: rounds are interleaved, and ratios paired, within one.
THROUGHPUT = pa.schema(
    [
        ("session", pa.string()),
        ("round", pa.int64()),
        ("problem", pa.string()),
        ("estimator", pa.string()),
        ("reference", pa.string()),
        ("batch_size", pa.int64()),
        ("steps", pa.int64()),
        ("seconds", pa.float64()),
        ("evaluations_per_example", pa.int64()),
        ("peak_memory_bytes", pa.int64()),
        ("device", pa.string()),
        ("device_name", pa.string()),
        ("threads", pa.int64()),
        ("machine", pa.string()),
        ("torch", pa.string()),
        ("code", pa.string()),  # of which estimator and problem: labels do not tell their source
    ]
)


def write_table(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet, all or nothing."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary, write_page_checksum=True)


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read a Parquet file as the rows that were written; raise ``DamagedError`` where it cannot be read."""
    rows: list[dict[str, Any]] = read_arrow(path, schema).to_pylist()
    return rows


def read_arrow(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file; raise ``DamagedError`` where it lacks a column, was cut short, or has a bit turned."""
    try:
        # A file object, because a path could be taken for a folder of many files.
        with path.open("rb") as file:
            return pq.read_table(file, columns=schema.names, page_checksum_verification=True).cast(schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "delete it, and run again to time anew" if schema is THROUGHPUT else "run again to recompute it"
        raise DamagedError(f"cannot read '{path}': {reason}; {remedy}") from None


def cut_short(path: Path) -> bool:
    """Whether a Parquet file is missing or lacks its last bytes: a look at both ends, for it is asked of many."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            file.seek(-len(MAGIC), os.SEEK_END)
            return start != MAGIC or file.read() != MAGIC
    except OSError:
        return True
