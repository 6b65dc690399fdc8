"""A small file that would become a large one: reading whatever a stranger sends takes less than 500 MiB of memory.

Each bomb is read by a process of its own, whose peak is what the system says it was (VmHWM).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import write_results

from estbench.store.archive import SCHEMAS
from estbench.store.pack import pack
from estbench.store.tables import CURVES, GRADIENTS

pytestmark = pytest.mark.slow

MOST_MIB = 500
FRAMES = "results = load(path); [results.cells, results.curves, results.gradients, results.throughput]"
CHECKPOINT = "from estbench.training.state import read_checkpoint; assert read_checkpoint(path, 10_000) is None"
READER = """
import re, sys
from pathlib import Path
from estbench import EstbenchError
from estbench.guarded import GuardedPath
from estbench.store import load
path = Path(sys.argv[1])
try:
    exec(sys.argv[2])
    answer = "read"
except EstbenchError as error:
    answer = f"refused: {str(error)[:400]}"
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], answer)
"""


def results(folder, estimators=("reparam",), seeds=1):
    return write_results(
        folder / "r", estimators, seeds, rounds=1, replicates=5, training={"steps": 2}, evaluation={"every": 1}
    )


def one(path, name):
    return min(path.rglob(name))


def filled(schema, rows, text):
    """A table of one value for each type."""
    by_type = {pa.int64(): 1, pa.float64(): 1.0, pa.string(): text}
    return pa.table({each.name: pa.repeat(pa.scalar(by_type[each.type], each.type), rows) for each in schema}, schema)


def many_rows(folder):
    """More than are read, in a few kB: each value is the same."""
    path = results(folder)
    pq.write_table(filled(CURVES, 3_000_000, "test"), one(path, "curves.parquet"))
    return path


def rows_just_under(folder):
    path = results(folder)
    pq.write_table(filled(CURVES, 499_999, "test"), one(path, "curves.parquet"))
    pq.write_table(filled(GRADIENTS, 499_999, "own"), one(path, "gradients.parquet"))
    return path


def long_words(folder):
    """A word of a megabyte, which stands in the dictionary once and in the table half a million times."""
    path = results(folder)
    pq.write_table(filled(CURVES, 500, "x" * 2**20).combine_chunks(), one(path, "curves.parquet"), data_page_size=2**16)
    return path


def another_codec(folder):
    path = results(folder)
    table = pa.table(
        {
            each.name: pa.nulls(900_000, each.type) if each.type != pa.string() else pa.repeat("x" * 200, 900_000)
            for each in CURVES
        }
    )
    pq.write_table(table, one(path, "curves.parquet"), compression="zstd", use_dictionary=False)
    return path


def written(name, text):
    def make(folder):
        path = results(folder)
        one(path, name).write_text(text())
        return path

    return make


def nested(count):
    return '{"schema": 3, "x": ' + "[" * count + "]" * count + "}"


def many_keys(count):
    return json.dumps({"schema": 3, **{f"k{at}": at for at in range(count)}})


def wide_text():
    """One wide character makes each of the others take four bytes."""
    return json.dumps({"schema": 3, "x": "a" * 40_000_000 + "\U0001f600"}, ensure_ascii=False)


def many_cells(name, change, cells=100):
    """Cells of which each is just under the limits."""

    def make(folder):
        path = results(folder, seeds=cells)
        files = sorted(path.rglob(name))
        content = change(files[0])
        for file in files:
            file.write_bytes(content)
        return path

    return make


def full_record(file):
    record = json.loads(file.read_bytes())
    record["environment"] = {"x": [[] for _ in range(9_000)]}
    return json.dumps(record).encode()


def long_record(file):
    record = json.loads(file.read_bytes())
    record["environment"] = {"x": "a" * 1_000_000}
    return json.dumps(record).encode()


def full_table(_file):
    content = io.BytesIO()
    pq.write_table(filled(CURVES, 499_999, "test"), content)
    return content.getvalue()


def toml(text):
    def make(folder):
        (folder / "x.toml").write_text(text)
        return folder / "x.toml"

    return make


def stride_of_zero(folder):
    import torch

    torch.save({"problem": {"x": torch.zeros(1).expand(2 * 10**9)}}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def packed_zeros(folder):
    import torch

    whole = io.BytesIO()
    torch.save({"problem": {"x": torch.zeros(4)}}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = bytes(2**30) if entry.filename.endswith("data/0") else old.read(entry)
            new.writestr(entry.filename, content)
    return folder / "checkpoint.pt"


def log(folder):
    """Holes on disk: nothing but a size."""
    with (folder / "1.err").open("wb") as file:
        file.truncate(2 * 2**30)
    return folder


def attempts(folder):
    path = results(folder)
    with (path / "cells" / f".{next((path / 'cells').iterdir()).name}.attempts").open("wb") as file:
        file.truncate(2 * 2**30)
    return path


def zeros_in_an_npz(folder):
    with (
        zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("train.npy", "w", force_zip64=True) as entry,
    ):
        for _ in range(1100):
            entry.write(bytes(2**20))
    return folder / "a.npz"


def commas_in_a_gz(folder):
    with gzip.open(folder / "a.csv.gz", "wb", compresslevel=1) as packed:
        for _ in range(1100):
            packed.write(b"," * 2**20)
    return folder / "a.csv.gz"


def a_large_png(folder):
    """A black image of 400 million pixels in 400 kB."""
    side, lines = 20_000, zlib.compressobj()
    packed = b"".join(lines.compress(bytes(side + 1)) for _ in range(side)) + lines.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    for number in range(3):
        (folder / f"{number}.png").write_bytes(content)
    return folder


OWN_FILE = "from estbench.datasets import load as load_dataset; load_dataset(f'file:{path}')"
TOML = "from estbench.execution import plan_of as p; from estbench.experiment import read_experiment as r; p(r(path))"
LOGS = "from estbench.execution.slurm import last_error_line; last_error_line(GuardedPath(path))"
STATUS = "from estbench import cli; assert cli._exit_code(['status', str(path)]) in {0, 1, 2}"


# By its name: how it is made, how it is read, and what comes of it.
def in_archive(rows, **options):
    """An archive with so many equal rows in its curves, which take a few kB."""

    def make(folder):
        path = pack([results(folder)], folder / "r.zip").path
        with zipfile.ZipFile(path) as zipped:
            members = {name: zipped.read(name) for name in zipped.namelist()}
        file = io.BytesIO()
        schema = SCHEMAS["curves.parquet"]
        table = filled(schema, rows, "test")
        zeros = pa.repeat(pa.scalar(0, pa.int64()), rows)
        pq.write_table(table.set_column(0, "cell", zeros), file, compression="zstd", **options)
        members["curves.parquet"] = file.getvalue()
        manifest = json.loads(members["manifest.json"])
        manifest["files"]["curves.parquet"] = hashlib.sha256(file.getvalue()).hexdigest()
        members["manifest.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in members.items():
                zipped.writestr(zipfile.ZipInfo(name), content)
        return path

    return make


BOMBS = {
    "archive of many rows": (in_archive(3_000_000), FRAMES, "ESTBENCH_MAX_ARCHIVE_ROWS"),
    "archive just under": (in_archive(900_000), FRAMES, ""),
    "archive of long pages": (in_archive(3_000_000, use_dictionary=False), FRAMES, "UNPACKED_ARCHIVE_BYTES"),
    "rows": (many_rows, FRAMES, "ESTBENCH_MAX_TABLE_ROWS"),
    "rows just under": (rows_just_under, FRAMES, ""),
    "words": (long_words, FRAMES, "ESTBENCH_MAX_TEXT_BYTES"),
    "codec": (another_codec, FRAMES, "snappy"),
    "nested plan": (written("experiment.json", lambda: nested(700_000)), FRAMES, "refused"),
    "deeper plan": (written("experiment.json", lambda: nested(20_000_000)), FRAMES, "ESTBENCH_MAX_JSON_PARTS"),
    "nested record": (written("cell.json", lambda: nested(9_000)), FRAMES, "refused"),
    "keys of a plan": (written("experiment.json", lambda: many_keys(1_400_000)), FRAMES, "refused"),
    "keys of a record": (written("cell.json", lambda: many_keys(60_000)), FRAMES, "ESTBENCH_MAX_RECORD"),
    "wide text": (written("experiment.json", wide_text), FRAMES, "ESTBENCH_MAX_JSON_BYTES"),
    "many full records": (many_cells("cell.json", full_record, 300), FRAMES, "ESTBENCH_MAX_RECORDS_BYTES"),
    "many long records": (many_cells("cell.json", long_record), FRAMES, ""),
    "many full tables": (many_cells("curves.parquet", full_table), FRAMES, "ESTBENCH_MAX_TABLES_BYTES"),
    "TOML nested": (toml("x = " + "[" * 100_000), TOML, "refused"),
    "TOML keys": (toml("".join(f"k{at} = 1\n" for at in range(25_000))), TOML, "refused"),
    "TOML dots": (toml(".".join("a" * 100_000) + " = 1"), TOML, "refused"),
    "TOML seeds": (toml('estimators = ["reparam"]\nseeds = 2000000000'), TOML, ""),
    "TOML sweep": (
        toml(
            'estimators = ["reparam"]\n[sweep]\n'
            + "".join(f"{name} = {list(range(1, 999))}\n" for name in ("steps", "batch_size", "num_samples"))
        ),
        TOML,
        "refused",
    ),
    "stride of zero": (stride_of_zero, CHECKPOINT, "read"),
    "packed zeros": (packed_zeros, CHECKPOINT, "read"),
    "log of a job": (log, LOGS, "read"),
    "arrays": (zeros_in_an_npz, OWN_FILE, "ESTBENCH_MAX_UNPACKED_BYTES"),
    "table": (commas_in_a_gz, OWN_FILE, "ESTBENCH_MAX_UNPACKED_BYTES"),
    "images": (a_large_png, OWN_FILE, "ESTBENCH_MAX_UNPACKED_BYTES"),
    "attempts": (attempts, STATUS, "read"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak of memory")
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.timeout(300)
def test_reading_takes_less_than_500_mib(tmp_path, name):
    make, use, expected = BOMBS[name]
    path = make(tmp_path)
    done = subprocess.run([sys.executable, "-c", READER, str(path), use], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    peak, _, answer = done.stdout.splitlines()[-1].partition(" ")
    print(f"{name}: {int(peak) // 1024} MiB, {answer}")
    assert int(peak) < MOST_MIB * 1024, answer
    assert expected in answer
