"""Cleaning: what killed runs left goes, what is finished or can go on stays."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path

import pytest

from estbench.experiment import Plan, make_plan
from estbench.experiment.spec import experiment_from
from estbench.registry import Resolved
from estbench.store import ResultsFolder
from estbench.store.leftovers import IN_USE_SECONDS, leftovers, remove
from estbench.variant import Variant


def plan_of(steps: int = 30) -> Plan:
    def resolve(text):
        variant = Variant.parse(text)
        return Resolved(variant.name, variant.options, 1, text)

    return make_plan(
        experiment_from({"estimators": ["reparam"], "seeds": 5, "training": {"steps": steps}}), resolve, resolve
    )


def age(path, seconds=2 * IN_USE_SECONDS):
    then = time.time() - seconds
    for each in [path, *Path(path).rglob("*")]:
        os.utime(each, (then, then), follow_symlinks=False)


@pytest.fixture
def folder(tmp_path) -> ResultsFolder:
    """Cells of two protocols in every state, and what killed runs leave; all of it old."""
    folder = ResultsFolder(tmp_path / "r")
    folder.create()
    earlier, now = plan_of(20), plan_of()
    folder.record_plan(now)
    for plan in (earlier, now):
        for cell, status in zip(plan, ("done", "diverged", "failed"), strict=False):
            record = {"cell": cell.as_dict(), "status": status, "clocks": {}}
            folder.commit(cell, record, [], [], keep_checkpoint=False)
        (folder.workspace(plan.cells[3]) / "checkpoint.pt").write_text("state")
    folder.workspace(now.cells[0])
    for name in (
        ".experiment.json.00112233aabbccdd.tmp",
        "cells/.x.0000000000000001.tmp",
        "report/tables/.a.csv.aaaaaaaaaaaaaaaa.tmp",
        "notes.txt",
    ):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text("half")
    (folder.cells / f".{now.cells[1].folder}.replaced").mkdir()
    (folder.cells / f".{now.cells[4].folder}.replaced").mkdir()
    for cell in (now.cells[0], now.cells[3], earlier.cells[3]):
        (folder.cells / f".{cell.folder}.attempts").write_text("no checkpoint\n")
    (folder.cells / "mine").mkdir()
    outside = tmp_path / f"e-v-s0-{'0' * 8}"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (Path(folder.cells) / outside.name).symlink_to(outside)
    age(tmp_path)
    return folder


def test_exactly_what_may_go_is_found(folder):
    earlier, now = plan_of(20), plan_of()
    found = {"/".join(each.path.parts): each.why for each in leftovers(folder)}
    assert found == {
        ".experiment.json.00112233aabbccdd.tmp": "was being written",
        "cells/.x.0000000000000001.tmp": "was being written",
        "report/tables/.a.csv.aaaaaaaaaaaaaaaa.tmp": "was being written",
        f"cells/.{now.cells[0].folder}.attempts": "counts the attempts at a cell that is finished or not planned",
        f"cells/.{earlier.cells[3].folder}.attempts": "counts the attempts at a cell that is finished or not planned",
        f"cells/.{now.cells[0].folder}.partial": "was started for a cell that is finished",
        f"cells/.{now.cells[1].folder}.replaced": "was replaced by a newer record",
        f"cells/.{earlier.cells[3].folder}.partial": "was started for a cell that is not planned",
        f"cells/{earlier.cells[2].folder}": "is not planned, and not finished",
    }


def test_cleaning_leaves_nothing_to_clean_and_every_finished_cell(folder):
    kept = {
        str(path): path.read_bytes()
        for plan in (plan_of(20), plan_of())
        for cell in plan.cells[:2]
        for path in Path(folder.cells / cell.folder).iterdir()
    }
    found = leftovers(folder)
    assert sum(each.size for each in found) > 0
    for each in found:
        remove(each)
    assert leftovers(folder) == []
    assert {path: (folder.path / path).read_bytes() for path in kept} == kept
    now = plan_of()
    assert (folder.workspace(now.cells[3]) / "checkpoint.pt").read_text() == "state"
    assert (folder.cells / "mine").is_dir()
    assert (folder.path / "notes.txt").read_text() == "half"
    assert (folder.path.parent / f"e-v-s0-{'0' * 8}" / "precious").read_text() == "mine"


def test_what_was_changed_just_now_stays(folder):
    for each in leftovers(folder):
        age(each.path, IN_USE_SECONDS / 2)
    assert leftovers(folder) == []


@pytest.mark.slow
def test_cleaning_beside_a_run_never_raises(folder):
    """Cells come and go, workspaces and temporary files, all of them old enough to be removed."""
    stopped, cells = threading.Event(), plan_of().cells

    def run():
        while not stopped.is_set():
            for cell in cells:
                workspace = folder.workspace(cell)
                (folder.cells / f".x.{secrets.token_hex(8)}.tmp").write_text("half")
                (folder.cells / f".{cell.folder}.attempts").write_text("no checkpoint\n")
                with contextlib.suppress(OSError):  # it may be removed meanwhile
                    (workspace / "checkpoint.pt").write_text("state")
                    age(folder.path)
                    record = {"cell": cell.as_dict(), "status": "done", "clocks": {}}
                    folder.commit(cell, record, [], [], keep_checkpoint=False)
                folder.discard(cell)

    writer = threading.Thread(target=run)
    writer.start()
    removed, until = 0, time.monotonic() + 8
    try:
        while time.monotonic() < until:
            for each in leftovers(folder):
                remove(each)
                removed += 1
    finally:
        stopped.set()
        writer.join()
    assert removed > 20
