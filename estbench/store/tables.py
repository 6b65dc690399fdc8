"""The columns of the Parquet files; rows are plain dictionaries until they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from estbench.errors import EstbenchError, ReadError
from estbench.guarded import DamagedError, guarded
from estbench.limits import TABLE_BYTES, TABLE_ROWS, TEXT_BYTES
from estbench.store.footer import MAGIC, MOST_BYTES, codecs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

# What tables are written with, by their numbers in Parquet: uncompressed, snappy. Both bound what a page unpacks to.
CODECS = {0, 1}
PHYSICAL = {pa.int64(): "INT64", pa.float64(): "DOUBLE", pa.string(): "BYTE_ARRAY"}

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
# A row without seconds is of an estimator that diverged while it was timed.
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

# Besides numbers that could not be measured.
OPTIONAL = {"reference", "evaluations_per_example", "peak_memory_bytes"}


def write_table(path: str | PathLike[str], rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet, all or nothing."""
    with guarded(path).replaced() as file:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file, write_page_checksum=True)


def read_rows(path: str | PathLike[str], schema: pa.Schema) -> list[dict[str, Any]]:
    """Read a Parquet file as the rows that were written; raise ``DamagedError`` where it cannot be read."""
    rows: list[dict[str, Any]] = read_arrow(path, schema).to_pylist()
    return rows


def read_arrow(path: str | PathLike[str], schema: pa.Schema) -> pa.Table:
    """Read a Parquet file; raise ``DamagedError`` where it lacks a column, was cut short, or has a bit turned.

    A file may claim more than it holds. Nothing is read before its size, its rows and its codec are known: snappy
    unpacks to twenty times its bytes at most, so memory is bounded whatever the pages say. Text is read as a table
    of its distinct values, and spelled out once it is known how much that is.
    """
    try:
        # A file object, because a path could be taken for a folder of many files.
        with guarded(path).open() as file, guarded(path).named(ReadError):
            TABLE_BYTES.check(os.fstat(file.fileno()).st_size, path)
            _check_codecs(codecs(file))
            words = [field.name for field in schema if field.type == pa.string()]
            opened = pq.ParquetFile(
                file,
                read_dictionary=words,
                page_checksum_verification=True,
                thrift_string_size_limit=MOST_BYTES,
                thrift_container_size_limit=MOST_BYTES,
            )
            _check_claims(path, opened, schema)
            table = opened.read(columns=schema.names, use_threads=False)
            _check_gaps(table, schema)
            TEXT_BYTES.check(sum(_spelled_out(table.column(name)) for name in words), path)
            return table.select(schema.names).cast(schema)
    except (EstbenchError, ReadError):
        raise
    except (OSError, ArithmeticError, LookupError, pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "delete it, and run again to time anew" if schema is THROUGHPUT else "run again to recompute it"
        raise DamagedError(f"cannot read '{path}': {reason}; {remedy}") from None


def _check_codecs(found: set[int]) -> None:
    if not found <= CODECS:
        raise ValueError("it is not packed with snappy, as tables are")


def _check_claims(path: str | PathLike[str], opened: pq.ParquetFile, schema: pa.Schema) -> None:
    """Refuse a table by what it says of itself: its rows, and columns with several values in a row."""
    found = opened.metadata
    groups = [found.row_group(at) for at in range(found.num_row_groups)]
    TABLE_ROWS.check(max(found.num_rows, sum(max(group.num_rows, 0) for group in groups)), path)
    columns = {opened.schema.column(at).path: opened.schema.column(at) for at in range(len(opened.schema))}
    for field in schema:
        column = columns[field.name]
        if column.physical_type != PHYSICAL[field.type] or column.max_repetition_level:
            raise ValueError(f"its column '{field.name}' is not of {field.type}")


def _check_gaps(table: pa.Table, schema: pa.Schema) -> None:
    """Refuse words and whole numbers that are missing; but for a row of an estimator that diverged, which has few."""
    if schema is THROUGHPUT:
        table = table.filter(pc.is_valid(table.column("seconds")))
    for field in schema:
        if field.type != pa.float64() and field.name not in OPTIONAL and table.column(field.name).null_count:
            raise ValueError(f"its column '{field.name}' has gaps")


def _spelled_out(column: pa.ChunkedArray) -> int:
    """How many bytes a column of text takes when each of its values is written out."""
    size = 0
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            size += chunk.nbytes
            continue
        lengths = pc.fill_null(pc.binary_length(chunk.dictionary), 0)
        size += pc.sum(lengths.take(pc.drop_null(chunk.indices))).as_py() or 0
    return size


def cut_short(path: str | PathLike[str]) -> bool:
    """Whether a Parquet file is missing or lacks its last bytes: a look at both ends, for it is asked of many."""
    try:
        with guarded(path).open() as file, guarded(path).named(ReadError):
            start = file.read(len(MAGIC))
            file.seek(-len(MAGIC), os.SEEK_END)
            return start != MAGIC or file.read() != MAGIC
    except ReadError:
        raise
    except OSError:
        return True
