"""Running a plan: what is stored first, what is left when the disk is full, and who is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess

import pytest

import estbench
from estbench import EstbenchError
from estbench.cli import _exit_code
from estbench.cli import status as status_module
from estbench.execution import Listener, as_experiment, plan_of
from estbench.experiment import SCHEMA_VERSION, find_experiment, read_experiment
from estbench.store import ResultsFolder, load

pytestmark = pytest.mark.usefixtures("one_thread")


class Told(Listener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events = []

    def planned(self, plan, stored):
        self.events.append(("planned", len(plan), stored))

    def cell_started(self, cell):
        self.events.append(("started", cell.estimator.label))

    def stepped(self, cell, step):
        self.events.append(("stepped", step))

    def cell_ended(self, cell, outcome, folder):
        assert folder.status(cell.folder) is outcome.status, "told before the record was there"
        self.events.append(("ended", cell.estimator.label, str(outcome.status)))

    def timing(self, labels):
        self.events.append(("timing", *labels))


def test_a_listener_is_told_everything_in_order(tiny, tmp_path):
    tiny["throughput"]["rounds"] = 1
    told = Told()
    estbench.run({**tiny, "estimators": ["stl"]}, out=tmp_path, listener=told)
    steps = [event[1] for event in told.events if event[0] == "stepped"]
    assert steps == [1, 10, 20, 30]
    assert [event for event in told.events if event[0] != "stepped"] == [
        ("planned", 1, 0),
        ("started", "stl"),
        ("ended", "stl", "done"),
        ("timing", "reparam", "stl"),
    ]
    again = Told()
    estbench.run({**tiny, "estimators": ["stl"]}, out=tmp_path, listener=again)
    assert again.events == [("planned", 1, 1)]


def test_an_experiment_is_a_path_a_name_data_or_itself(tiny, tiny_file):
    experiment = read_experiment(tiny_file)
    assert as_experiment(experiment) is experiment
    assert as_experiment(tiny_file) == as_experiment(str(tiny_file)) == as_experiment(tiny) == experiment
    assert as_experiment("quickstart") == read_experiment(find_experiment("quickstart"))


def test_every_name_is_checked_before_anything_is_written(tiny, tmp_path):
    for change in (
        {"estimators": ["reparam", "reparm"]},
        {"problems": ["vae", "vea"]},
        {"problems": ["vae[dataset=fashion_mnist]"]},
        {"throughput": {"reference": "none"}},
    ):
        with pytest.raises(EstbenchError):
            estbench.run({**tiny, **change}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_without_the_reference_is_timed_beside_it(tiny, tmp_path):
    tiny |= {"estimators": ["stl"], "throughput": {"rounds": 1, "steps": 1, "reference": "detached"}}
    results = estbench.run(tiny, out=tmp_path)
    assert results.throughput["estimator"].tolist() == ["detached", "stl"]
    assert results.cells["estimator"].tolist() == ["stl"]


def test_every_batch_size_of_a_sweep_is_timed_and_every_learning_rate_once(tiny, tmp_path):
    tiny |= {"estimators": ["stl"], "throughput": {"rounds": 1, "steps": 1}}
    tiny |= {"sweep": {"batch_size": [8, 16], "learning_rate": [1e-3, 1e-2]}}
    results = estbench.run(tiny, out=tmp_path)
    timed = results.throughput[["estimator", "batch_size"]].to_numpy().tolist()
    assert timed == [["reparam", 8], ["stl", 8], ["reparam", 16], ["stl", 16]]
    assert results.throughput["session"].nunique() == 2
    assert len(estbench.run(tiny, out=tmp_path).throughput) == 4
    tiny["sweep"]["batch_size"] = [8, 16, 24]
    assert estbench.run(tiny, out=tmp_path).throughput["batch_size"].tolist() == [8, 8, 16, 16, 24, 24]


LATER = """
from estbench.estimators import Estimator, register

@register("later")
class Later(Estimator):
    summary = "reparam, until it has trained for longer than a cell"
    supports = {"normal"}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
    calls = 0

    def forward(self, objective):
        surrogate = objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
        self.calls += self.training
        return surrogate * float("nan") if self.calls > LAST else surrogate
"""


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("last", "status"), [(35, "done"), (20, "diverged")])
def test_an_estimator_that_diverges_while_it_is_timed_is_timed_once(tiny, tmp_path, plugin, last, status):
    tiny |= {"estimators": ["later", "stl"], "throughput": {"rounds": 1, "steps": 40}}
    later = plugin("later.py", LATER.replace("LAST", str(last)))
    timed, notes = [], []

    class Hears(Listener):
        def timing(self, labels):
            timed.append(labels)

        def noted(self, remark):
            notes.append(remark)

    def run(**options):
        return estbench.run(tiny, out=tmp_path, plugins=[later], listener=Hears(), **options)

    results = run()
    assert results.cells.set_index("estimator").loc["later", "status"] == status
    assert set(results.throughput["estimator"]) == {"reparam", "stl"}
    assert results.throughput["seconds"].notna().all()
    (note,) = [note for note in notes if "cannot be timed" in note]
    assert "not finite" in note
    assert [set(labels) for labels in timed] == [{"reparam", "later", "stl"}]
    run()
    assert len(timed) == 1
    run(force=True)
    assert len(timed) == 2
    assert set(load(tmp_path).throughput["estimator"]) == {"reparam", "stl"}


@pytest.mark.parametrize("file", ["curves.parquet", "gradients.parquet"])
def test_a_cell_with_a_turned_bit_is_named_and_computed_again(tiny, tmp_path, file):
    """The file is as long as it was, and both of its ends are right."""
    whole = estbench.run({**tiny, "seeds": 2}, out=tmp_path)
    folder = whole.cells["folder"][1]
    path = tmp_path / "cells" / folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    named = {cell["folder"]: cell["stop_reason"] for cell in status_module._cells(ResultsFolder(tmp_path))}
    assert named[folder].startswith(f"damaged: cannot read '{path}'")
    assert named[whole.cells["folder"][0]] == ""
    told = Told()
    again = estbench.run({**tiny, "seeds": 2}, out=tmp_path, listener=told)
    assert told.events[0] == ("planned", 2, 1)
    assert again.curves["value"].equals(whole.curves["value"])
    assert again.gradients["value"].equals(whole.gradients["value"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_between_cells_leaves_the_finished_ones(tiny, tmp_path, number):
    class Stops(Listener):
        def cell_ended(self, cell, outcome, folder):
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        estbench.run({**tiny, "seeds": 3}, out=tmp_path, listener=Stops())
    assert signal.getsignal(number) is handler
    assert estbench.load(tmp_path).cells["status"].tolist() == ["done", "missing", "missing"]
    assert estbench.run({**tiny, "seeds": 3}, out=tmp_path).cells["status"].tolist() == ["done"] * 3


def test_a_second_interrupt_does_not_wait(tiny, tmp_path):
    class Insists(Listener):
        def stepped(self, cell, step):
            if step == 10:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        estbench.run(tiny, out=tmp_path, listener=Insists())
    assert estbench.load(tmp_path).cells["status"].tolist() == ["missing"]
    assert estbench.run(tiny, out=tmp_path).cells["status"].tolist() == ["done"]


def test_a_full_disk_is_one_line_and_finished_cells_are_whole(tiny_file, tmp_path, monkeypatch, capfd):
    """The disk fills up after the first cell; when there is room again the same command goes on."""
    out, real = tmp_path / "out", os.fsync

    def fsync(descriptor):
        if list(out.glob("cells/[!.]*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    command = ["run", str(tiny_file), "--seeds", "3", "--out", str(out)]
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        assert _exit_code(command) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("Error: cannot write")
    assert "No space left on device; finished runs are saved, run again to resume" in errors
    assert errors.count("\n") == 1
    results = estbench.load(out)
    assert results.cells["status"].tolist() == ["done", "missing", "missing"]
    assert len(results.curves) > 0
    assert estbench.run(tiny_file, out=out).cells["status"].tolist() == ["done", "missing", "missing"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="takes root to make a small file system")
def test_a_disk_that_is_really_full(tiny_file, tmp_path, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code = _exit_code(["run", str(tiny_file), "--seeds", "20", "--out", str(disk / "out")])
        errors = capfd.readouterr().err
        results = estbench.load(disk / "out")
        statuses = results.cells["status"].tolist()
        assert len(results.curves) > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 1
    assert errors.startswith("Error: cannot write")
    assert errors.count("\n") == 1
    finished = statuses.count("done")
    assert 0 < finished < 20
    assert statuses == ["done"] * finished + ["missing"] * (20 - finished)


def test_a_record_says_where_it_comes_from(tiny, tmp_path):
    estbench.run(tiny, out=tmp_path)
    (path,) = tmp_path.glob("cells/*/cell.json")
    record = json.loads(path.read_text())
    (cell,) = plan_of(as_experiment(tiny))
    assert record["cell"] == cell.as_dict()
    assert record["schema"] == SCHEMA_VERSION
    assert {"torch", "numpy", "python", "device", "threads", "machine"} <= set(record["environment"])
    assert record["started"] <= record["finished"]


def test_running_reads_a_damaged_folder_before_it_computes(tiny, tmp_path, monkeypatch):
    estbench.run(tiny, out=tmp_path)
    (tmp_path / "experiment.json").write_text("{")
    monkeypatch.setattr("estbench.execution.local.compute", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(EstbenchError, match="cannot read"):
        estbench.run({**tiny, "seeds": 2}, out=tmp_path)
