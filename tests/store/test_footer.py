"""A Parquet footer tells its codecs before Arrow sees it, and whatever is in it, nothing but an error comes of it."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estbench.guarded import DamagedError
from estbench.store.footer import read_codecs
from estbench.store.tables import CURVES, read_arrow

# As the format numbers them.
NUMBERS = {"none": 0, "snappy": 1, "gzip": 2, "brotli": 4, "zstd": 6, "lz4": 7}


def table(**options):
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), file, **options)
    return file


@pytest.mark.parametrize("name", NUMBERS)
def test_codecs_are_read(name):
    assert read_codecs(table(compression=name)) == {NUMBERS[name]}


def test_each_column_and_each_group_counts():
    file = table(compression={"a": "gzip", "b": "zstd"}, row_group_size=1)
    assert read_codecs(file) == {2, 6}


def test_an_unknown_codec_is_refused_and_does_not_end_the_process(tmp_path):
    """The number of each codec in turn is made one that no codec has."""
    path = tmp_path / "curves.parquet"
    rows = {
        name: pa.array([1], CURVES.field(name).type) if CURVES.field(name).type != pa.string() else ["x"]
        for name in CURVES.names
    }
    pq.write_table(pa.table(rows, CURVES), path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    changed = 0
    for at in range(len(whole) - 8 - length, len(whole) - 8):
        content = bytearray(whole)
        content[at] = 0x7E  # 63, as a number of the protocol
        try:
            found = read_codecs(io.BytesIO(content))
        except (LookupError, ValueError):
            continue
        if not found <= {0, 1}:
            path.write_bytes(content)
            with pytest.raises(DamagedError, match="snappy"):
                read_arrow(path, CURVES)
            changed += 1
    assert changed >= len(CURVES)


@pytest.mark.parametrize("keep", [0, 4, 7, 8, 20])
def test_what_is_cut_short_has_no_footer(keep):
    with pytest.raises((LookupError, ValueError)):
        read_codecs(io.BytesIO(table().getvalue()[:keep]))


def test_what_is_nested_without_end_is_refused():
    footer = b"\x19" + b"\x19" * 100_000
    with pytest.raises(ValueError, match="deep"):
        read_codecs(io.BytesIO(footer + len(footer).to_bytes(4, "little") + b"PAR1"))
