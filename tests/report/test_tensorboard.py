"""TensorBoard event files: read back by TensorBoard's own reader."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from records import write_results

from estbench.errors import EstbenchError
from estbench.report.tensorboard import FILE, write_events
from estbench.store import load

STARTED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def results(tmp_path):
    path = write_results(
        tmp_path / "r",
        ["reparam", "stl"],
        2,
        statuses={("stl", 1): None, ("stl", 0): "diverged"},
        stops={("stl", 0): 800},
    )
    for file in path.glob("cells/*/cell.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**record, "started": STARTED}), encoding="utf-8")
    return load(path)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*tfevents*"))}


def test_the_events_are_the_records(results, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = write_events(results, tmp_path / "tb")
    recorded = results.cells[results.cells["status"] != "missing"]
    assert sorted(files(folder)) == sorted(f"{name}/{FILE}" for name in recorded["folder"])
    started = 1767323045.0
    for cell in recorded.itertuples():
        read = EventAccumulator(str(folder / cell.folder), {"scalars": 0}).Reload()
        mine = {
            name: frame[(frame["estimator"] == cell.estimator) & (frame["seed"] == cell.seed)]
            for name, frame in {"curves": results.curves, "gradients": results.gradients}.items()
        }
        tags = {f"{row.split}/{row.metric}" for row in mine["curves"].itertuples()}
        tags |= {
            f"gradients/{row.trajectory}/{row.space}/{row.group}/{row.statistic}"
            for row in mine["gradients"].itertuples()
        }
        assert set(read.Tags()["scalars"]) == tags
        assert len(tags) == 15 + 16
        curve = mine["curves"].query("split == 'test' and metric == 'elbo'")
        events = read.Scalars("test/elbo")
        assert [event.step for event in events] == curve["step"].tolist()
        np.testing.assert_array_equal([event.value for event in events], curve["value"].astype(np.float32))
        np.testing.assert_allclose([event.wall_time - started for event in events], curve["seconds"], atol=1e-6)
        variance = mine["gradients"].query("space == 'weights' and group == 'encoder' and statistic == 'variance'")
        events = read.Scalars("gradients/own/weights/encoder/variance")
        assert [event.step for event in events] == variance["step"].tolist()
        np.testing.assert_array_equal([event.value for event in events], variance["value"].astype(np.float32))
        assert all(np.diff([event.wall_time for event in events]) > 0)


def test_the_same_records_give_the_same_bytes_and_others_go(results, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    folder = write_events(results, tmp_path / "tb")
    assert files(folder) == files(write_events(results, tmp_path / "again"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*tfevents*")}
    (folder / "gone").mkdir()
    (folder / "gone" / FILE).write_bytes(b"old")
    (folder / "mine").mkdir()
    (folder / "mine" / "events.out.tfevents.1.mine").write_bytes(b"mine")
    write_events(results, folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # TensorBoard may be reading them
    assert not (folder / "gone").exists()
    assert (folder / "mine" / "events.out.tfevents.1.mine").read_bytes() == b"mine"


def test_a_missing_package_is_named(results, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(EstbenchError, match=r"need the extra 'tensorboard': pip install 'estbench\[tensorboard\]'"):
        write_events(results, tmp_path / "tb")
    assert not (tmp_path / "tb").exists()
