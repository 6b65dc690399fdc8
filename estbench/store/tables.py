"""The Parquet files; rows are plain dictionaries until they are written, and ``columns`` says what is in them."""

from __future__ import annotations

import contextlib
import io
import os
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from estbench.errors import EstbenchError, ReadError
from estbench.guarded import DamagedError, guarded
from estbench.limits import ARCHIVE_ROWS, TABLE_BYTES, TABLE_ROWS, TEXT_BYTES, UNPACKED_ARCHIVE_BYTES, Limit
from estbench.store import columns
from estbench.store.footer import MAGIC, MOST_BYTES, count_unpacked_bytes, read_codecs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

# The codecs of tables by their numbers in Parquet: uncompressed, snappy. Both bound the size of an unpacked page.
CODECS = {0, 1}
ZSTD = 6
PHYSICAL = {pa.int64(): "INT64", pa.float64(): "DOUBLE", pa.string(): "BYTE_ARRAY", pa.binary(): "BYTE_ARRAY"}

CURVES, GRADIENTS = columns.CURVES.schema, columns.GRADIENTS.schema
PICTURES, THROUGHPUT = columns.PICTURES.schema, columns.THROUGHPUT.schema

# Columns that may have gaps, in addition to those of floating-point numbers.
OPTIONAL = {"reference", "evaluations_per_example", "peak_memory_bytes"}
# Columns that a file of an earlier version may lack, with the value of all its rows.
BEFORE = {
    column.name: column.before
    for table in columns.TABLES.values()
    for column in table.columns
    if column.before is not None
}


def write_table(path: str | PathLike[str], rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet, completely or not at all."""
    write_arrow(path, pa.Table.from_pylist(list(rows), schema=schema))


def write_arrow(path: str | PathLike[str], table: pa.Table) -> None:
    """Write a table as Parquet, completely or not at all."""
    with guarded(path).replaced() as file:
        pq.write_table(table, file, write_page_checksum=True)


def read_rows(path: str | PathLike[str], schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file; raise ``DamagedError`` if it cannot be read."""
    rows: list[dict[str, Any]] = read_arrow(path, schema).to_pylist()
    return rows


def read_arrow(path: str | PathLike[str], schema: pa.Schema) -> pa.Table:
    """Read a Parquet file; raise ``DamagedError`` if it lacks a column, is cut short, or has a changed bit.

    A file may claim more than it holds. So its size, its rows and its codec are checked first: snappy unpacks to at
    most twenty times its bytes, which bounds the memory. Text is read as a dictionary of its distinct values, and is
    written out only when the resulting size is known.
    """
    remedy = "delete it and run again to time it again" if schema is THROUGHPUT else "run again to recompute it"
    # A file object, because Arrow would read a path to a folder as many files.
    with _damage_named(path, remedy), guarded(path).open() as file, guarded(path).named(ReadError):
        TABLE_BYTES.check(os.fstat(file.fileno()).st_size, path)
        if not read_codecs(file) <= CODECS:
            raise ValueError("it has another codec than snappy")
        return _read(file, path, schema, TABLE_ROWS)


def packed(table: pa.Table) -> bytes:
    """Return a table of an archive as the bytes of a file."""
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", compression_level=19, write_page_checksum=True)
    return file.getvalue()


def read_packed(content: bytes, what: str, schema: pa.Schema) -> pa.Table:
    """Read a table of an archive; raise ``DamagedError`` as ``read_arrow`` does. ``what`` names it.

    Its codec may be zstd, which has no limit of its own: what the pages claim to hold is counted first.
    """
    with _damage_named(what, "get it again"):
        file = io.BytesIO(content)
        if not read_codecs(file) <= CODECS | {ZSTD}:
            raise ValueError("it has another codec than zstd")
        metadata = _open(file, []).metadata
        unpacked = 0
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if not column.num_values:  # then no page of it is read
                    continue
                first = column.dictionary_page_offset if column.has_dictionary_page else None
                start = min(first or column.data_page_offset, column.data_page_offset)
                unpacked += count_unpacked_bytes(content, start, column.total_compressed_size)
                UNPACKED_ARCHIVE_BYTES.check(unpacked, what)
        file.seek(0)
        return _read(file, what, schema, ARCHIVE_ROWS)


@contextlib.contextmanager
def _damage_named(what: object, remedy: str) -> Iterator[None]:
    """Raise whatever a damaged table makes its reader raise as a ``DamagedError``."""
    try:
        yield
    except (EstbenchError, ReadError):
        raise
    except (OSError, ArithmeticError, LookupError, pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(f"cannot read '{what}': {reason}; {remedy}") from None


def _read(file: IO[bytes], what: object, schema: pa.Schema, rows: Limit) -> pa.Table:
    """Read a table whose size and codec were checked."""
    texts = [field.name for field in schema if field.type in {pa.string(), pa.binary()}]
    added = _find_added(file, schema)
    opened = _open(file, [name for name in texts if name not in added])
    _check_claims(what, opened, [field for field in schema if field.name not in added], rows)
    table = opened.read([name for name in schema.names if name not in added], use_threads=False)
    for name, value in added.items():
        field = schema.field(name)
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), len(table)))
    _check_gaps(table, schema)
    TEXT_BYTES.check(sum(_count_text_bytes(table.column(name)) for name in texts), what)
    return table.select(schema.names).cast(schema)


def _find_added(file: IO[bytes], schema: pa.Schema) -> dict[str, Any]:
    """Return the columns that the file lacks because it is of an earlier version, with the value of all its rows."""
    later = {name: BEFORE[name] for name in schema.names if name in BEFORE}
    there = set(_open(file, []).schema_arrow.names) if later else set()
    return {name: value for name, value in later.items() if name not in there}


def _open(file: IO[bytes], texts: list[str]) -> pq.ParquetFile:
    return pq.ParquetFile(
        file,
        read_dictionary=texts,
        page_checksum_verification=True,
        thrift_string_size_limit=MOST_BYTES,
        thrift_container_size_limit=MOST_BYTES,
    )


def _check_claims(what: object, opened: pq.ParquetFile, fields: list[pa.Field], rows: Limit) -> None:
    """Refuse a table with too many rows, or with a column of another type, by what its metadata says."""
    metadata = opened.metadata
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    rows.check(max(metadata.num_rows, sum(max(group.num_rows, 0) for group in groups)), what)
    columns = {opened.schema.column(at).path: opened.schema.column(at) for at in range(len(opened.schema))}
    for field in fields:
        column = columns[field.name]
        if column.physical_type != PHYSICAL[field.type] or column.max_repetition_level:
            raise ValueError(f"its column '{field.name}' is not of {field.type}")


def _check_gaps(table: pa.Table, schema: pa.Schema) -> None:
    """Refuse missing texts and integers, except in the rows of an estimator that diverged while it was timed."""
    if schema is THROUGHPUT:
        table = table.filter(pc.is_valid(table.column("seconds")))
    for field in schema:
        if field.type != pa.float64() and field.name not in OPTIONAL and table.column(field.name).null_count:
            raise ValueError(f"its column '{field.name}' has gaps")


def _count_text_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes of a column of text when each of its values is written out."""
    size = 0
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            size += chunk.nbytes
            continue
        lengths = pc.fill_null(pc.binary_length(chunk.dictionary), 0)
        size += pc.sum(lengths.take(pc.drop_null(chunk.indices))).as_py() or 0
    return size


def is_cut_short(path: str | PathLike[str]) -> bool:
    """Whether a Parquet file is missing or incomplete; reads only its first and last bytes, to be fast."""
    try:
        with guarded(path).open() as file, guarded(path).named(ReadError):
            start = file.read(len(MAGIC))
            file.seek(-len(MAGIC), os.SEEK_END)
            return start != MAGIC or file.read() != MAGIC
    except ReadError:
        raise
    except OSError:
        return True
