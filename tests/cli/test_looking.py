"""The commands that look: status, list, show, doctor, help."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import estbench as package
from estbench import execution
from estbench.store import ResultsFolder

STATUSES = ("done", "diverged", "failed", "timeout", "interrupted")


@pytest.fixture
def every_status(here, tiny):
    """A folder with a cell of every status, one missing and one begun."""
    plan = execution.plan_of(execution.as_experiment({**tiny, "seeds": len(STATUSES) + 2}))
    folder = ResultsFolder("r")
    folder.create()
    folder.record_plan(plan)
    for cell, status in zip(plan, STATUSES, strict=False):
        reason = "" if status == "done" else f"it is [{status}] at step 7"
        record = {"cell": cell.as_dict(), "status": status, "stop_reason": reason, "step": 7, "clocks": {}}
        folder.commit(cell, record, [], [], keep_checkpoint=False)
    folder.workspace(plan.cells[-1])
    return folder


def test_status_is_one_line_a_cell(estbench, every_status):
    code, said, errors = estbench("status", "r")
    assert (code, errors) == (0, "")
    for status in STATUSES:
        (line,) = [line for line in said.splitlines() if line.startswith(f"{status}  ")]
        assert "7/30" in line
        assert status == "done" or f"it is [{status}] at step 7" in line
    assert "run again to resume" in said
    assert "7 planned: 2 missing, 1 done, 1 diverged, 1 failed, 1 timeout, 1 interrupted" in said


def test_status_for_programs(estbench, every_status):
    code, said, errors = estbench("status", "r", "--json")
    assert (code, errors) == (0, "")
    answer = json.loads(said)
    assert answer["counts"] == {**dict.fromkeys(STATUSES, 1), "missing": 2}
    assert [cell["status"] for cell in answer["cells"]] == [*STATUSES, "missing", "missing"]
    assert [cell["seed"] for cell in answer["cells"]] == list(range(7))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("estimators", "reparam"),
        ("problems", "vae"),
        ("networks", "conv"),
        ("posteriors", "full"),
        ("priors", "learned"),
        ("likelihoods", "gaussian"),
        ("datasets", "digits"),
        ("metrics", "sigma"),
        ("experiments", "quickstart"),
    ],
)
def test_list_names_what_there_is(estbench, here, kind, name):
    code, said, errors = estbench("list", kind)
    assert (code, errors) == (0, "")
    assert f"\n{name} " in said
    assert f"\n{name} " in estbench("list").out
    entries = json.loads(estbench("list", kind, "--json").out)
    assert list(entries) == [kind]
    assert name in [entry["name"] for entry in entries[kind]]
    assert all(entry.get("summary") or entry.get("question") for entry in entries[kind])


def test_show_explains_each_estimator(estbench, here):
    for name in package.estimators.names():
        code, said, errors = estbench("show", name)
        assert (code, errors) == (0, "")
        assert said.startswith(f"{name} (estimator)\n")
        assert "unbiased: " in said


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("reinforce", "baseline = none"),
        ("reinforce", "@article{williams1992"),
        ("vae", "latent_size = 20"),
        ("conv", "conv (network)"),
        ("conv", "hidden = [256]"),
        ("full", "full (posterior)"),
        ("digits", "1,797 digits"),
        ("quickstart", 'name = "quickstart"'),
    ],
)
def test_show_explains_anything_that_is_listed(estbench, here, name, part):
    code, said, errors = estbench("show", name)
    assert (code, errors) == (0, "")
    assert part in said


def test_doctor_finds_this_machine_well(estbench, here):
    code, said, errors = estbench("doctor")
    assert (code, errors) == (0, "")
    assert "torch" in said
    assert "BROKEN" not in said
    assert list(here.iterdir()) == []
    findings = json.loads(estbench("doctor", "--json").out)
    assert all(finding["ok"] is not False for finding in findings)
    assert {"torch", "device", "shipped digits", "results folder"} <= {finding["check"] for finding in findings}


def test_doctor_finds_a_broken_data_folder(estbench, here, monkeypatch):
    monkeypatch.setenv("ESTBENCH_DATA_DIR", str(here))
    (here / "mnist").mkdir()
    (here / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"cut sho")
    code, said, _ = estbench("doctor")
    assert code == 1
    assert "BROKEN" in said


def test_help_lists_the_commands_and_needs_no_command(estbench, here):
    code, said, _ = estbench("--help")
    assert code == 0
    for command in ("run", "report", "compare", "status", "merge", "clean", "data", "list", "show", "doctor"):
        assert f" {command} " in said
        assert "Usage: " in estbench(command, "--help").out
    code, said, errors = estbench()
    before = tuple(map(int, version("click").split(".")[:2])) < (8, 2)
    assert code == (0 if before else 2)  # that no command is a mistake is a newer click's opinion
    assert "Usage: " in said + errors


def test_version(estbench, here):
    code, said, errors = estbench("--version")
    assert (code, errors) == (0, "")
    assert package.__version__ in said


def test_as_a_module(environment, tmp_path):
    command = [sys.executable, "-m", "estbench", "--help"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Usage: estbench" in done.stdout


@pytest.mark.slow
def test_a_reader_who_leaves_early_is_no_error(environment, tmp_path):
    command = f"{sys.executable} -m estbench show reinforce | true"
    done = subprocess.run(
        ["sh", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
