"""A results folder: whole cells, an accumulating plan, and no trust in what others wrote."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from estbench import EstbenchError, __version__
from estbench.experiment import SCHEMA_VERSION, Plan, make_plan
from estbench.experiment.spec import experiment_from
from estbench.guarded import guarded
from estbench.registry import Resolved
from estbench.store import ResultsFolder, Status, load
from estbench.store.files import read_json, write_json, write_text
from estbench.variant import Variant

CURVE = {"step": 0, "examples": 0, "evaluations": 0, "seconds": 0.5, "split": "test", "metric": "elbo", "value": -1.5}
MOMENT = {
    "step": 1,
    "trajectory": "own",
    "space": "params",
    "group": "loc",
    "statistic": "variance",
    "value": 2.0,
    "low": 1.0,
    "high": 4.0,
    "replicates": 3,
}
ROUND = {
    "session": "now",
    "round": 0,
    "problem": "vae",
    "estimator": "reparam",
    "reference": "reparam",
    "batch_size": 16,
    "mode": "eager",
    "steps": 2,
    "seconds": 0.1,
    "evaluations_per_example": 1,
    "peak_memory_bytes": 1000,
    "compile_seconds": None,
    "graph_breaks": "",
    "device": "cpu",
    "device_name": "a processor",
    "threads": 1,
    "machine": "m",
    "torch": "2",
    "code": "",
}


def resolve(text):
    variant = Variant.parse(text)
    return Resolved(variant.name, variant.options, 1, text)


def plan_of(*estimators: str, steps: int = 30, seeds: int = 1) -> Plan:
    data = {"estimators": list(estimators), "seeds": seeds, "training": {"steps": steps}}
    return make_plan(experiment_from(data), resolve, resolve)


def record_of(cell, status: str = "done", **more):
    clocks = {"training": 1.0, "evaluation": 2.0, "probe": 3.0, "writing": 4.0}
    return {"cell": cell.as_dict(), "status": status, "stop_reason": "", "clocks": clocks, "step": 30, **more}


def committed(folder, cell, status: str = "done", *, value: float = -1.5, keep_checkpoint: bool = False):
    curve, moment = {**CURVE, "value": value}, MOMENT
    folder.commit(cell, record_of(cell, status), [curve], [moment], keep_checkpoint=keep_checkpoint)


@pytest.fixture
def folder(tmp_path) -> ResultsFolder:
    """A folder with the plan of one estimator, nothing computed."""
    made = ResultsFolder(tmp_path / "results")
    made.create()
    made.record_plan(plan_of("reparam"))
    return made


@pytest.fixture
def cell():
    return plan_of("reparam").cells[0]


def snapshot(path):
    return {str(file.relative_to(Path(path))): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


# Files


def test_a_file_is_whole_or_absent(tmp_path):
    def write_half():
        with guarded(tmp_path / "a.txt").replaced() as file:
            file.write(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_earlier_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "earlier")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("estbench.guarded.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "a.txt", "later")
    assert snapshot(tmp_path) == {"a.txt": b"earlier"}


def test_json_carries_its_schema(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, "é"]})
    assert read_json(tmp_path / "a.json") == {"schema": SCHEMA_VERSION, "estbench": __version__, "x": [1, "é"]}


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        ('{"schema": 7}', "upgrade estbench to a version that reads schema 7"),
        ('{"schema": 7, "estbench": "3.2.1"}', r"upgrade estbench to 3\.2\.1"),
    ],
)
def test_a_newer_schema_is_refused_with_the_version_that_it_needs(tmp_path, content, needed):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(
        EstbenchError, match=rf"a\.json' has schema 7, and this estbench reads up to {SCHEMA_VERSION}; {needed}"
    ):
        read_json(tmp_path / "a.json")


def test_an_older_schema_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"schema": {SCHEMA_VERSION - 1}}}')
    with pytest.raises(EstbenchError, match=r"a\.json' has schema \d+, which an earlier estbench wrote.*--out"):
        read_json(tmp_path / "a.json")


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b"{}",
    b'{"schema": null}',
    b'{"schema": "one"}',
    b'{"schema": 1e999}',
    b'{"schema": 0}',
    b'{"schema": -1}',
    b'{"schema": NaN}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"schema": 1',
]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:20]))
def test_a_broken_record_is_one_line_that_names_it(folder, cell, content):
    committed(folder, cell)
    for path in (folder.cells / cell.folder / "cell.json", folder.plan_file):
        path.write_bytes(content)
        with pytest.raises(EstbenchError, match=rf"cannot read '.*{path.name}'") as caught:
            load(folder.path)
        assert "\n" not in str(caught.value)


# The plan


@pytest.mark.parametrize(
    "error",
    [
        {"message": "x" * 3_000_000},
        {"message": "é\U0001f600" * 300_000, "traceback": "," * 50_000},
        {"traceback": "[" * 2_000_000},
        {f"k{at}": at for at in range(25_000)},
        {"frames": [{"line": at, "code": ["x"] * 9} for at in range(4_000)]},
    ],
    ids=["long", "wide", "brackets", "keys", "parts"],
)
def test_a_record_is_cut_so_that_it_can_be_read_again(folder, cell, error):
    folder.commit(cell, record_of(cell, error=error), [], [], keep_checkpoint=False)
    again = folder.read_record(cell.folder)
    assert again["status"] == "done"
    assert again["cell"] == cell.as_dict()
    assert again["error"]


def test_a_folder_without_a_plan_says_what_makes_one(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(EstbenchError, match=r"is no results folder: it has no experiment\.json; make one with"):
            load(path)


def test_cells_of_one_protocol_accumulate(folder):
    assert folder.record_plan(plan_of("stl", seeds=2)) == []
    assert folder.record_plan(plan_of("stl", "rloo")) == []
    cells = folder.read_plan()["cells"]
    assert [(cell["estimator"]["name"], cell["seed"]) for cell in cells] == [
        ("reparam", 0),
        ("stl", 0),
        ("stl", 1),
        ("rloo", 0),
    ]


def test_another_protocol_starts_a_new_plan_and_leaves_the_cells(folder, cell):
    committed(folder, cell)
    (remark,) = folder.record_plan(plan_of("stl", steps=60))
    assert remark.startswith("1 run of an earlier protocol")
    assert [cell["estimator"]["name"] for cell in folder.read_plan()["cells"]] == ["stl"]
    assert folder.status(cell.folder) is Status.DONE
    folder.record_plan(plan_of("reparam"))
    assert load(folder.path).cells["status"].tolist() == ["done"]


def test_finished_cells_of_an_earlier_protocol_are_in_the_plan_again(folder, cell):
    committed(folder, cell)
    unfinished = plan_of("stl").cells[0]
    committed(folder, unfinished, "interrupted")
    folder.record_plan(plan_of("stl", steps=60))
    other, again = folder.record_plan(plan_of("rloo"))
    assert "set aside" in other
    assert again.startswith("1 run of this protocol")
    assert [planned["estimator"]["name"] for planned in folder.read_plan()["cells"]] == ["reparam", "rloo"]


def test_an_earlier_version_does_not_come_back_with_its_protocol(folder, cell):
    committed(folder, cell)
    folder.record_plan(plan_of("stl", steps=60))
    newer = replace(cell, estimator=replace(cell.estimator, source="f00d"))
    folder.record_plan(Plan(plan_of("reparam").experiment, (newer,)))
    assert [planned["key"] for planned in folder.read_plan()["cells"]] == [newer.key]


def test_of_a_sweep_only_the_planned_values_come_back(folder):
    def swept(*sizes, steps=30, name="reparam"):
        data = {
            "estimators": [name],
            "training": {"steps": steps},
            "sweep": {"batch_size": list(sizes)},
        }
        return make_plan(experiment_from(data), resolve, resolve)

    for each in swept(16, 32):
        committed(folder, each)
    folder.record_plan(swept(16, 32))
    folder.record_plan(plan_of("stl", steps=60))
    folder.record_plan(swept(16, name="rloo"))
    found = [(each["estimator"]["name"], each["training"]["batch_size"]) for each in folder.read_plan()["cells"]]
    assert found == [("reparam", 16), ("rloo", 16)]


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", ".", "", ".hidden", "a/b", 5, None, ["a"]])
def test_a_plan_cannot_lead_out_of_its_folder(folder, name):
    plan = json.loads(folder.plan_file.read_text())
    plan["cells"][0]["folder"] = name
    folder.plan_file.write_text(json.dumps(plan))
    with pytest.raises(EstbenchError, match="name of a cell's folder"):
        load(folder.path)


@pytest.mark.parametrize(
    "cells", [None, 5, "text", [5], [[]], [{}], [{"folder": "x"}], [{"folder": "x", "estimator": 3}]]
)
def test_a_damaged_list_of_cells_is_named(folder, cells):
    write_json(folder.plan_file, {"cells": cells})
    with pytest.raises(EstbenchError, match="its list of cells is damaged"):
        load(folder.path).cells  # noqa: B018


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(EstbenchError, match=r"cannot make the results folder .*choose another with --out"):
            ResultsFolder(path).create()
        with pytest.raises(EstbenchError, match="is no results folder"):
            load(path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["estimator", "problem"])
@pytest.mark.parametrize(
    "change", [{"version": 2}, {"options": {"x": 1}}, {"card": "other-v2"}, {"source": "f00d"}], ids=str
)
def test_cells_whose_label_meant_something_else_are_set_aside(folder, cell, kind, change):
    committed(folder, cell)
    newer = replace(cell, **{kind: replace(getattr(cell, kind), **change)})
    assert newer.key != cell.key
    (remark,) = folder.record_plan(Plan(plan_of("reparam").experiment, (newer,)))
    assert f"1 run of an earlier version of '{getattr(cell, kind).name}'" in remark
    assert f"its {next(iter(change))} changed" in remark
    assert [planned["key"] for planned in folder.read_plan()["cells"]] == [newer.key]
    assert folder.status(cell.folder) is Status.DONE


# Cells


def test_a_cell_is_missing_then_begun_then_done(folder, cell):
    assert folder.status(cell.folder) is None
    assert not folder.has_workspace(cell.folder)
    (folder.workspace(cell) / "checkpoint.pt").write_text("state")
    assert folder.has_workspace(cell.folder)
    assert folder.status(cell.folder) is None
    committed(folder, cell)
    assert folder.status(cell.folder) is Status.DONE
    assert not folder.has_workspace(cell.folder)
    assert {path.name for path in (folder.cells / cell.folder).iterdir()} == {
        "cell.json",
        "curves.parquet",
        "gradients.parquet",
    }
    assert [path.name for path in folder.cells.iterdir()] == [cell.folder]


def test_what_a_killed_run_left_half_written_is_no_part_of_a_record(folder, cell):
    (folder.workspace(cell) / ".checkpoint.pt.00112233aabbccdd.tmp").write_text("half a checkpo")
    committed(folder, cell)
    assert not [name for name in (folder.cells / cell.folder).names() if name.startswith(".")]


def test_an_interrupted_cell_keeps_its_checkpoint_and_takes_it_up_again(folder, cell):
    (folder.workspace(cell) / "checkpoint.pt").write_text("state")
    committed(folder, cell, "interrupted", keep_checkpoint=True)
    assert (folder.cells / cell.folder / "checkpoint.pt").read_text() == "state"
    folder.reopen(cell)
    assert (folder.workspace(cell) / "checkpoint.pt").read_text() == "state"
    assert folder.status(cell.folder) is Status.INTERRUPTED
    committed(folder, cell, value=-7.0)
    assert folder.status(cell.folder) is Status.DONE
    assert load(folder.path).curves["value"].tolist() == [-7.0]
    assert [path.name for path in folder.cells.iterdir()] == [cell.folder]


def test_a_discarded_cell_is_gone(folder, cell):
    committed(folder, cell)
    (folder.workspace(cell) / "checkpoint.pt").write_text("state")
    folder.discard(cell)
    folder.discard(cell)
    assert list(folder.cells.iterdir()) == []


@pytest.mark.parametrize("broken", ["write_table", "write_json"])
def test_a_reader_never_sees_half_a_cell(folder, cell, monkeypatch, broken):
    committed(folder, cell)
    before = snapshot(folder.cells / cell.folder)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"estbench.store.folder.{broken}", full)
    with pytest.raises(OSError, match="No space"):
        committed(folder, cell, "failed", value=-9.0)
    assert snapshot(folder.cells / cell.folder) == before
    assert load(folder.path).curves["value"].tolist() == [-1.5]


def test_a_first_commit_that_fails_leaves_the_cell_missing(folder, cell, monkeypatch):
    monkeypatch.setattr(
        "estbench.store.folder.write_json", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(OSError, match="full"):
        committed(folder, cell)
    assert load(folder.path).cells["status"].tolist() == ["missing"]


@pytest.mark.parametrize("status", list(Status))
def test_statuses_are_a_closed_set(folder, cell, status):
    committed(folder, cell, status)
    assert folder.status(cell.folder) is status
    assert load(folder.path).cells["status"].tolist() == [status]
    assert status.final == (status in {"done", "diverged"})


@pytest.mark.parametrize("status", ["finished", "", None, 5, "DONE", ["done"], {}])
def test_a_status_of_ones_own_is_refused(folder, cell, status):
    committed(folder, cell)
    write_json(folder.cells / cell.folder / "cell.json", record_of(cell, status))
    assert folder.status(cell.folder) is None
    with pytest.raises(EstbenchError, match="has no valid status; run again to recompute it"):
        load(folder.path)


@pytest.mark.parametrize("file", ["cell.json", "curves.parquet", "gradients.parquet"])
@pytest.mark.parametrize("keep", [None, 0, 3, 0.5, -1])
def test_a_record_cut_short_is_named_and_computed_again(folder, cell, file, keep):
    committed(folder, cell)
    path = folder.cells / cell.folder / file
    content = path.read_bytes()
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    whole = file == "cell.json" and keep == -1  # it lacks a line break
    assert folder.status(cell.folder) is (Status.DONE if whole else None)
    if not whole:
        with pytest.raises(EstbenchError, match=rf"{cell.folder}/{file}'.*run again to recompute it"):
            load(folder.path)
        committed(folder, cell, value=-3.0)
    assert folder.status(cell.folder) is Status.DONE


def test_a_turned_bit_in_a_table_is_found(folder, cell):
    committed(folder, cell)
    path = folder.cells / cell.folder / "curves.parquet"
    content = bytearray(path.read_bytes())
    at = bytes(content).index(np.float64(-1.5).tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(EstbenchError, match=r"cannot read '.*curves\.parquet': .*run again to recompute it"):
        load(folder.path).curves  # noqa: B018
    assert folder.status(cell.folder) is Status.DONE, "a look at both ends does not see it"
    assert folder.status(cell.folder, thorough=True) is None
    assert folder.is_damaged(cell)


def test_a_newer_record_is_never_computed_again(folder, cell):
    committed(folder, cell)
    (folder.cells / cell.folder / "cell.json").write_text('{"schema": 99}')
    with pytest.raises(EstbenchError, match="has schema 99"):
        folder.status(cell.folder)


# Links


def test_nothing_is_read_or_written_through_a_link(folder, cell, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ".a.tmp").write_text("mine")
    (victim / "checkpoint.pt").write_text("mine")
    before = snapshot(victim)
    link = Path(folder.cells) / f".{cell.folder}.partial"
    link.symlink_to(victim)
    for use in (lambda: committed(folder, cell), lambda: folder.workspace(cell), lambda: folder.discard(cell)):
        with pytest.raises(EstbenchError, match="is a symbolic link, and results folders have none; remove it"):
            use()
    link.rename(folder.cells / cell.folder)
    for use in (
        lambda: committed(folder, cell),
        lambda: folder.reopen(cell),
        lambda: folder.discard(cell),
        lambda: folder.status(cell.folder),
        lambda: load(folder.path),
    ):
        with pytest.raises(EstbenchError, match="is a symbolic link, and results folders have none; remove it"):
            use()
    assert snapshot(victim) == before


# Frames


def test_the_frames_of_results_are_long_and_typed(folder, cell):
    committed(folder, cell)
    folder.record_plan(plan_of("stl"))
    folder.append_throughput([{**ROUND, "code": cell.code}])
    results = load(folder.path)
    assert list(results.cells.columns) == [
        *("key", "folder", "estimator", "problem", "seed", "status", "stop_reason", "step", "examples", "evaluations"),
        *("training_seconds", "evaluation_seconds", "probe_seconds", "writing_seconds"),
    ]
    assert results.cells["status"].tolist() == ["done", "missing"]
    assert results.cells["training_seconds"].tolist()[0] == 1.0
    assert results.cells["training_seconds"].isna().tolist() == [False, True]
    assert list(results.curves.columns) == ["estimator", "problem", "seed", *CURVE]
    assert list(results.gradients.columns) == ["estimator", "problem", "seed", *MOMENT]
    assert list(results.throughput.columns) == list(ROUND)
    for frame in (results.curves, results.gradients):
        assert frame["estimator"].tolist() == ["reparam"]
        assert frame["step"].dtype == frame["seed"].dtype == "int64"
        assert frame["value"].dtype == "float64"


def test_a_folder_with_nothing_in_it_gives_empty_frames_of_the_same_columns(folder):
    results = load(folder.path)
    assert list(results.curves.columns) == ["estimator", "problem", "seed", *CURVE]
    assert list(results.gradients.columns) == ["estimator", "problem", "seed", *MOMENT]
    assert list(results.throughput.columns) == list(ROUND)
    assert (len(results.curves), len(results.gradients), len(results.throughput)) == (0, 0, 0)
    assert results.cells["status"].tolist() == ["missing"]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"garbage" * 100, None], ids=["empty", "short", "garbage", "truncated"]
)
def test_a_broken_table_is_one_line_that_names_it(folder, cell, content):
    committed(folder, cell)
    folder.append_throughput([{**ROUND, "code": cell.code}])
    results = load(folder.path)
    for name, path in {
        "curves": folder.cells / cell.folder / "curves.parquet",
        "gradients": folder.cells / cell.folder / "gradients.parquet",
        "throughput": folder.throughput_file,
    }.items():
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)
        with pytest.raises(EstbenchError, match=rf"cannot read '.*{name}\.parquet': .*run again") as caught:
            getattr(results, name)
        assert "\n" not in str(caught.value)


def test_a_table_that_is_gone_or_lacks_columns_is_named(folder, cell):
    committed(folder, cell)
    curves = folder.cells / cell.folder / "curves.parquet"
    curves.write_bytes((folder.cells / cell.folder / "gradients.parquet").read_bytes())
    with pytest.raises(EstbenchError, match=r"cannot read '.*curves\.parquet'"):
        load(folder.path).curves  # noqa: B018
    curves.unlink()
    with pytest.raises(EstbenchError, match=r"cannot read '.*curves\.parquet'"):
        load(folder.path).curves  # noqa: B018


# Throughput


@pytest.mark.parametrize("memory", [[1000, 2000], [None, None], [1000, None]], ids=["known", "unknown", "mixed"])
def test_rounds_are_added_to_those_already_there(folder, cell, memory):
    assert folder.timed() == set()
    for index, peak in enumerate(memory):
        folder.append_throughput([{**ROUND, "code": cell.code, "round": index, "peak_memory_bytes": peak}])
    folder.append_throughput([{**ROUND, "round": 2, "estimator": "stl", "code": "of stl"}])
    assert folder.timed() == {(cell.code, 16, "eager"), ("of stl", 16, "eager")}
    frame = load(folder.path).throughput
    assert frame["round"].tolist() == [0, 1, 2]
    assert frame["peak_memory_bytes"].isna().tolist() == [*(peak is None for peak in memory), False]


def test_two_estimators_of_one_label_have_two_folders(cell):
    assert replace(cell, estimator=replace(cell.estimator, version=2)).folder != cell.folder
