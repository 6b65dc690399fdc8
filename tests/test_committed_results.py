"""The committed results are those of the committed experiments: of cells with the keys that these have today."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY
from records import drawn_alone

import estbench
from estbench import estimators, problems
from estbench.execution.reference_results import reference_results
from estbench.experiment import make_plan, read_experiment
from estbench.report.analysis import Analysis
from estbench.report.tables import all_tables
from estbench.reproduce import read_card
from estbench.store import load
from estbench.store.pack import certificates_of
from estbench.store.verify import inspect

ROOT = Path(__file__).parents[1]
EXPERIMENTS = {path.stem: path for path in (ROOT / "experiments").rglob("*.toml")}
REPORTED = sorted(path.parents[2] for path in ROOT.glob("results/*/report/tables/summary.csv"))
# Cells are never committed: a folder that has them is of a run on this machine.
FOLDERS = [folder for folder in REPORTED if not (folder / "cells").exists()]
REPORTS = [folder / "report" for folder in FOLDERS]
PUBLISHED = sorted(ROOT.glob("results/*/records.zip"))
ARCHIVES = [path for path in PUBLISHED if not (path.parent / "cells").exists()]
MOST_BYTES = 1_000_000
CARDS = sorted(ROOT.glob("results/reproductions/cards/*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def complaints(report: Path) -> list[str]:
    """What keeps a report from being of an experiment as its file says it today."""
    recorded = read(report / "experiment.json")
    name = recorded["experiment"]["name"]
    if name not in EXPERIMENTS:
        return [f"there is no experiment '{name}'"]
    experiment = read_experiment(EXPERIMENTS[name])
    plan = make_plan(experiment, estimators.ESTIMATORS.resolve, problems.PROBLEMS.resolve)
    found = []
    if recorded["cells"] != {cell.folder: cell.key for cell in plan}:
        found.append("its cells have other keys than those of the experiment's file")
    environments = read(report / "environment.json")
    if sorted(folder for each in environments for folder in each["cells"]) != sorted(recorded["cells"]):
        found.append("not every cell has a record")
    if any(each["environment"]["uncommitted"] or not each["environment"]["commit"] for each in environments):
        found.append("a cell is not of committed code")
    with (report / "tables" / "summary.csv").open(encoding="utf-8") as file:
        if {row["estimator"] for row in csv.DictReader(file)} != {cell.estimator.label for cell in plan}:
            found.append("its summary is of other estimators")
    return found


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_a_report_is_of_the_experiment_as_its_file_says_it(report):
    assert complaints(report) == []


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_the_page_of_results_shows_a_report_and_how_it_was_made(report):
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    name = report.parent.name
    assert f"estbench run {EXPERIMENTS[name].relative_to(ROOT)}" in page
    assert f"({name}/report/report.html)" in page
    summary = (report / "tables" / "summary.md").read_text(encoding="utf-8")
    assert "\n".join(line for line in summary.splitlines() if line.startswith("|")) in page


def test_the_page_of_results_links_to_what_is_there():
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", page)
    assert targets
    assert [target for target in targets if not (ROOT / "results" / target).exists()] == []


def test_every_report_has_its_records():
    assert [path.parent for path in ARCHIVES] == FOLDERS
    assert {path.parent.name: path.stat().st_size for path in PUBLISHED if path.stat().st_size > MOST_BYTES} == {}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.parent.name)
def test_published_records_are_sound_and_give_the_tables_of_the_report(path):
    results = load(path)
    assert [each.message for each in inspect(results, certificates_of(results)) if each.refused] == []
    assert results.cells["status"].isin(["done", "diverged"]).all()
    tables = {table.name: table for table in all_tables(Analysis(results))}
    for name in ("summary", "ranking"):
        committed = pd.read_csv(path.parent / "report" / "tables" / f"{name}.csv")
        computed = pd.read_csv(io.StringIO(tables[name].files(["csv"])["csv"]))
        # Older versions of SciPy have a quantile of Student's t to ten digits.
        pd.testing.assert_frame_equal(computed, committed, rtol=1e-8, atol=0)


def test_published_records_are_known_by_their_digests():
    published = {name: (entry.sha256, entry.bytes) for name, entry in reference_results().items()}
    files = {path.parent.name: path.read_bytes() for path in PUBLISHED}
    assert published == {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_an_outcome_is_of_the_card_as_its_file_says_it(path):
    recorded, card = read(path)["card"], read_card(EXPERIMENTS[path.stem])
    assert {field: recorded[field] for field in ("study", "options", "expect")} == {
        field: card.model_dump(mode="json")[field] for field in ("study", "options", "expect")
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The report of an experiment that has just run, as if from committed code, beside the experiment's file."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    estbench.run(folder / "tiny.toml", out=folder / "r")
    with drawn_alone():
        report = estbench.report.build(folder / "r", ["csv"])
    environments = read(report / "environment.json")
    for each in environments:
        each["environment"] |= {"commit": "c0ffee", "uncommitted": False}
    (report / "environment.json").write_text(json.dumps(environments), encoding="utf-8")
    return folder


@pytest.fixture
def fresh(built, tmp_path, monkeypatch):
    """A copy of that report, which a test may change."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(EXPERIMENTS, "tiny", tmp_path / "tiny.toml")
    return tmp_path / "r" / "report"


def test_a_fresh_report_has_nothing_to_complain_of(fresh):
    assert complaints(fresh) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("tiny.toml", "steps = 30", "steps = 31", "its cells have other keys than those of the experiment's file"),
        ("r/report/experiment.json", '"tiny"', '"other"', "there is no experiment 'other'"),
        ("r/report/environment.json", '"uncommitted": false', '"uncommitted": true', "a cell is not of committed code"),
        ("r/report/environment.json", '"reparam-', '"rloo-', "not every cell has a record"),
        ("r/report/tables/summary.csv", "reparam", "rloo", "its summary is of other estimators"),
    ],
)
def test_what_does_not_fit_shows(fresh, tmp_path, file, old, new, said):
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    assert complaints(fresh) == [said]
