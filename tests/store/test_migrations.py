"""A folder that schema 1 wrote, with estbench at 5e42191: it loads, and its finished cells are never computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import estbench
import estbench.execution
from estbench.execution import as_experiment, plan_of
from estbench.experiment import SCHEMA_VERSION
from estbench.store import ResultsFolder, Status, load, load_many
from estbench.store.migrations import STEPS

SCHEMA1 = Path(__file__).parent / "schema1"
FINISHED = ("reinforce-baseline-ema-vae-s0-a75b07c7", "reparam-vae-s0-003e62b6")


@pytest.fixture
def older(tmp_path) -> Path:
    return Path(shutil.copytree(SCHEMA1, tmp_path / "older"))


@pytest.fixture
def plan(older):
    """The plan of the same experiment, made today."""
    return plan_of(as_experiment(json.loads((older / "experiment.json").read_text())["experiment"]))


def times(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in path.iterdir()}


def test_there_is_a_step_from_every_older_schema():
    assert sorted(STEPS) == list(range(1, SCHEMA_VERSION))


def test_an_older_folder_loads_with_the_keys_of_today(older, plan):
    """Fails when a cell gains an option or a setting that its migration does not know of."""
    before = sorted(older.rglob("*"))
    results = load(older)
    assert [cell["key"] for cell in results.plan["cells"]] == [cell.key for cell in plan]
    assert [cell["folder"] for cell in results.plan["cells"]] == [cell.folder for cell in plan]
    assert results.plan["schema"] == SCHEMA_VERSION
    assert results.cells["status"].tolist() == ["done", "done", "missing", "missing"]
    assert results.curves.groupby(["estimator", "seed"]).ngroups == 2
    assert {results.home(cell.folder).name for cell in plan.cells[:2]} == set(FINISHED)
    for cell in plan.cells[:2]:
        assert results.records[cell.folder]["cell"] == cell.as_dict()
    assert sorted(older.rglob("*")) == before


def test_what_schema_1_finished_is_kept_and_what_it_had_begun_goes_on(older, plan):
    begun = older / "cells" / ".reparam-vae-s1-27f9e1ae.partial"
    begun.mkdir()
    (begun / "checkpoint.pt").write_text("state")
    kept = {name: times(older / "cells" / name) for name in FINISHED}
    folder = ResultsFolder(older)
    folder.read_plan()
    assert [folder.status(cell.folder) for cell in plan] == [Status.DONE, Status.DONE, None, None]
    assert folder.record_plan(plan) == 0
    assert {path.name for path in folder.cells.iterdir()} == {
        plan.cells[0].folder,
        plan.cells[1].folder,
        f".{plan.cells[2].folder}.partial",
    }
    assert [times(folder.cells / cell.folder) for cell in plan.cells[:2]] == [kept[name] for name in reversed(FINISHED)]
    assert (folder.workspace(plan.cells[2]) / "checkpoint.pt").read_text() == "state"
    again = ResultsFolder(older)
    assert len(again.read_plan()["cells"]) == 4
    assert [again.status(cell.folder) for cell in plan] == [Status.DONE, Status.DONE, None, None]


def test_a_run_computes_only_what_schema_1_had_not(older, plan):
    class Started(estbench.execution.Listener):
        def __init__(self):
            self.cells = []

        def cell_started(self, cell):
            self.cells.append(cell.key)

    listener = Started()
    results = estbench.run(plan.experiment, older, listener=listener)
    assert listener.cells == [cell.key for cell in plan.cells[2:]]
    assert set(results.cells["status"]) == {"done"}


def test_older_and_newer_folders_merge(older, plan, tmp_path):
    """Each with a seed of its own: a probe's intervals are others today, and two versions of a cell are refused."""
    newer = estbench.run(plan.experiment.model_copy(update={"seeds": (1,)}), tmp_path / "newer")
    merged = load_many([older, newer.path])
    assert len(merged.cells) == 4
    assert merged.home(plan.cells[0].folder).name == "reparam-vae-s0-003e62b6"
    assert merged.home(plan.cells[3].folder).parents[1] == newer.path


@pytest.mark.parametrize(
    "name", ["../../x", "/etc", "", ".hidden", 5, None], ids=["up", "absolute", "empty", "hidden", "number", "null"]
)
def test_an_older_plan_cannot_lead_out_of_its_folder(older, name):
    file = older / "experiment.json"
    plan = json.loads(file.read_text())
    plan["cells"][0]["folder"] = name
    file.write_text(json.dumps(plan))
    with pytest.raises(estbench.EstbenchError, match="no name of a cell's folder"):
        load(older)


def test_a_cell_may_not_be_a_link(older, tmp_path):
    victim = tmp_path / "victim"
    shutil.move(older / "cells" / FINISHED[1], victim)
    (older / "cells" / FINISHED[1]).symlink_to(victim)
    with pytest.raises(estbench.EstbenchError, match="is a symbolic link, and results folders have none; remove it"):
        load(older)
