"""Archives: what goes in comes out, the same records give the same bytes, and what a stranger changed is refused."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import analyse, write_results

from estbench.errors import EstbenchError
from estbench.report.tables import all_tables
from estbench.store import load
from estbench.store.archive import MANIFEST, SCHEMAS, Archive
from estbench.store.folder import ResultsFolder
from estbench.store.merge import join, merge
from estbench.store.pack import pack, unpack_published

LABELS = ["reparam", "stl", "reinforce"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("packed") / "r", LABELS, 3, shared=True)


@pytest.fixture(scope="module")
def archive(folder, tmp_path_factory):
    return pack([folder], tmp_path_factory.mktemp("archive") / "r.zip").path


FRAMES = ("cells", "curves", "gradients", "throughput")


def frames(results):
    return {name: getattr(results, name) for name in FRAMES}


def test_an_archive_has_the_frames_of_its_folder(folder, archive):
    there, here = frames(load(folder)), frames(load(archive))
    for name in FRAMES:
        pd.testing.assert_frame_equal(there[name], here[name])


def test_a_report_of_it_has_the_same_tables(folder, archive):
    there, here = (all_tables(analyse(path)) for path in (folder, archive))
    (origins,) = (table for table in here if table.name == "origins")  # with the digest, which a folder has not
    here.remove(origins)
    assert [table.name for table in there] == [table.name for table in here]
    for one, other in zip(there, here, strict=True):
        pd.testing.assert_frame_equal(one.data, other.data)
        assert one.rows == other.rows


def test_the_same_records_give_the_same_bytes(folder, archive, tmp_path):
    again = pack([folder], tmp_path / "again.zip")
    unpacked = join([archive], tmp_path / "unpacked")
    from_unpacked = pack([unpacked.path], tmp_path / "twice.zip")
    from_archive = pack([archive], tmp_path / "thrice.zip")
    digests = {again.digest, from_unpacked.digest, from_archive.digest}
    assert digests == {hashlib.sha256(archive.read_bytes()).hexdigest()}


def test_it_is_smaller_than_its_folder(folder, archive):
    loose = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "pictures.parquet")
    assert archive.stat().st_size < 0.75 * loose


def test_pictures_are_packed_if_that_is_asked_for(folder, archive, tmp_path):
    assert load(archive).pictures.empty
    packed = pack([folder], tmp_path / "r.zip", pictures=True)
    pd.testing.assert_frame_equal(load(packed.path).pictures, load(folder).pictures)
    assert packed.size > archive.stat().st_size


def test_runs_that_failed_are_left_out_and_counted(tmp_path):
    statuses = {("stl", 0): "failed", ("stl", 1): "diverged", ("reparam", 0): None}
    path = write_results(tmp_path / "r", ["reparam", "stl"], 2, statuses=statuses)
    packed = pack([path], tmp_path / "r.zip")
    assert (packed.runs, packed.missing) == (2, 2)
    assert sorted(load(packed.path).cells["status"]) == ["diverged", "done", "missing", "missing"]


def test_an_archive_merges_with_a_folder(folder, archive, tmp_path):
    more = write_results(tmp_path / "more", [*LABELS, "detached"], 3, shared=True)
    merged = merge([load(archive), load(more)])
    assert len(merged.cells) == 12
    assert set(merged.cells["status"]) == {"done"}
    joined = join([archive, more], tmp_path / "joined")
    pd.testing.assert_frame_equal(joined.curves, merged.curves)


def test_a_published_archive_is_unpacked_once(archive, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "records.zip").write_bytes(archive.read_bytes())
    folder = ResultsFolder(results)
    assert unpack_published(folder) == 9
    assert unpack_published(folder) == 0
    pd.testing.assert_frame_equal(load(results).curves, load(archive).curves)


def test_nothing_to_pack_is_said(tmp_path):
    path = write_results(tmp_path / "r", ["stl"], 1, statuses={("stl", 0): None})
    with pytest.raises(EstbenchError, match="nothing to pack"):
        pack([path], tmp_path / "r.zip")


# What a stranger may change


def members_of(archive):
    with zipfile.ZipFile(archive) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def written(path, members, *, honest=True, compression=zipfile.ZIP_STORED):
    """Write an archive of other members; if ``honest``, with their true digests."""
    if honest:
        manifest = json.loads(members[MANIFEST])
        manifest["files"] = {
            name: hashlib.sha256(content).hexdigest() for name, content in members.items() if name != MANIFEST
        }
        members = {**members, MANIFEST: json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def parquet(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def changed_byte(members):
    content = bytearray(members["curves.parquet"])
    content[len(content) // 2] ^= 1
    return {**members, "curves.parquet": bytes(content)}


def with_path(name):
    return lambda members: {**members, name: b"x"}


def without(name):
    return lambda members: {each: content for each, content in members.items() if each != name}


def with_table(name, make, **options):
    def change(members):
        table = pq.read_table(io.BytesIO(members[name]))
        return {**members, name: parquet(make(table), **options)}

    return change


def renamed_record(members):
    return with_table(
        "records.parquet",
        lambda table: table.set_column(0, "folder", pa.array(["../../etc", *table.column(0).to_pylist()[1:]])),
    )(members)


def twice(members):
    return with_table("records.parquet", lambda table: pa.concat_tables([table, table]))(members)


def other_document(name, change):
    def make(members):
        document = json.loads(members[name])
        change(document)
        return {**members, name: json.dumps(document).encode()}

    return make


HONEST = {
    "a path that leads out": (with_path("../evil"), "which no archive has"),
    "an absolute path": (with_path("/etc/passwd"), "which no archive has"),
    "a further file": (with_path("cells/x.pt"), "which no archive has"),
    "no plan": (without("experiment.json"), "lacks experiment.json"),
    "no records": (without("records.parquet"), "lacks records.parquet"),
    "a record under another name": (renamed_record, "which is not in its plan"),
    "a record twice": (twice, "two records of one cell"),
    "another schema": (other_document("experiment.json", lambda plan: plan.update(schema=99)), "upgrade estbench"),
    "no cells": (other_document("experiment.json", lambda plan: plan.pop("cells")), "list of cells is damaged"),
    "a cell's folder": (
        other_document("experiment.json", lambda plan: plan["cells"][0].update(folder="../x")),
        "not a valid name",
    ),
    "rows in another order": (
        with_table("curves.parquet", lambda table: table.sort_by([("cell", "descending")])),
        "not in the order of the records",
    ),
    "rows of no cell": (
        with_table(
            "curves.parquet", lambda table: table.set_column(0, "cell", pa.array([10**6] * len(table), pa.int64()))
        ),
        "not in the order of the records",
    ),
    "a column less": (with_table("curves.parquet", lambda table: table.drop_columns(["value"])), "cannot read"),
    "another codec": (with_table("curves.parquet", lambda table: table, compression="gzip"), "another codec"),
    "half a table": (lambda members: {**members, "curves.parquet": members["curves.parquet"][:-30]}, "cannot read"),
    "no table": (lambda members: {**members, "gradients.parquet": b"PAR1" * 10}, "cannot read"),
    "a text for a table": (other_document("manifest.json", lambda manifest: manifest.update(format="x")), "format 'x'"),
    "no document": (lambda members: {**members, "experiment.json": b"[1, 2]"}, "cannot read"),
}
DISHONEST = {
    "a changed byte": (changed_byte, "curves.parquet is not what the manifest says"),
    "a changed number": (
        with_table("curves.parquet", lambda table: table, compression="zstd"),
        "curves.parquet is not what the manifest says",
    ),
    "a file less": (without("throughput.parquet"), "does not hold the files that its manifest lists"),
    "no list": (other_document(MANIFEST, lambda manifest: manifest.pop("files")), "does not hold the files"),
}


def read_all(path):
    results = load(path)
    frames(results)
    return results


@pytest.mark.parametrize(("change", "message"), HONEST.values(), ids=HONEST)
def test_a_changed_archive_with_true_digests_is_refused(archive, tmp_path, change, message):
    path = written(tmp_path / "x.zip", change(members_of(archive)))
    with pytest.raises(EstbenchError, match=message):
        read_all(path)


@pytest.mark.parametrize(("change", "message"), DISHONEST.values(), ids=DISHONEST)
def test_a_changed_archive_is_told_by_its_digests(archive, tmp_path, change, message):
    path = written(tmp_path / "x.zip", change(members_of(archive)), honest=False)
    with pytest.raises(EstbenchError, match=message):
        read_all(path)


def test_compressed_members_are_refused(archive, tmp_path):
    path = written(tmp_path / "x.zip", members_of(archive), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(EstbenchError, match="compressed or encrypted"):
        read_all(path)


def test_two_members_of_one_name_are_refused(archive, tmp_path):
    path = written(tmp_path / "x.zip", members_of(archive))
    with zipfile.ZipFile(path, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr("experiment.json", b"{}")
    with pytest.raises(EstbenchError, match="two files of one name"):
        read_all(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive" * 100, b"PK\5\6" + bytes(18)])
def test_what_is_no_archive_is_named(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(EstbenchError, match=r"x\.zip"):
        load(path)


def test_a_page_that_claims_more_than_is_allowed_is_not_unpacked(archive, tmp_path, monkeypatch):
    """A megabyte of equal numbers takes a few bytes: what its pages claim to hold is counted before it is read."""
    monkeypatch.setenv("ESTBENCH_MAX_UNPACKED_ARCHIVE_BYTES", str(10**6))
    schema = SCHEMAS["curves.parquet"]
    filled = {
        field.name: pa.repeat(pa.scalar({pa.int64(): 0, pa.float64(): 1.0}.get(field.type, "x"), field.type), 10**6)
        for field in schema
    }
    table = pa.table(filled, schema)
    content = parquet(table, compression="zstd", use_dictionary=False)
    path = written(tmp_path / "x.zip", {**members_of(archive), "curves.parquet": content})
    assert path.stat().st_size < 200_000
    with pytest.raises(EstbenchError, match="unpacked bytes, and the limit is 1,000,000"):
        read_all(path)


def test_the_rows_of_a_cell_are_its_own(archive):
    opened = Archive(archive)
    for name in ("curves.parquet", "gradients.parquet"):
        total = sum(len(opened.cell_table(folder, name)) for folder in opened.records)
        assert total == len(opened.table(name)) > 0
