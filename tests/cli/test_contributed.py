"""What the workflow for contributed archives does with a pull request: ``.ci/verify_archives``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "verify_archives"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_report"),
    pytest.mark.skipif(not (shutil.which("git") and shutil.which("bash")), reason="needs git and bash"),
]


@pytest.fixture
def repository(estbench, tiny_file, tmp_path, monkeypatch):
    """A repository whose main branch has one archive, and archives beside it that are in no commit."""
    monkeypatch.chdir(tmp_path)
    for name in ("ann", "bob"):
        run = ["run", tiny_file, "-e", "reparam", *(["-e", "rloo"] if name == "bob" else []), "--seeds", "2"]
        assert estbench(*run, "--out", f"made/{name}").code == 0
        assert estbench("pack", f"made/{name}", "-o", f"{name}.zip").code == 0
    repository = tmp_path / "repository"
    (repository / "results" / "contributed" / "ann").mkdir(parents=True)
    shutil.copy("ann.zip", repository / "results" / "contributed" / "ann" / "tiny.zip")
    git(repository, "init", "-q", "-b", "main")
    commit(repository)
    git(repository, "checkout", "-q", "-b", "pull")
    return repository


def git(repository, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=repository, check=True)


def commit(repository):
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "x")


def verify(repository, tmp_path):
    """Run the script as the workflow does, on a checkout of the main branch."""
    commit(repository)
    git(repository, "checkout", "-q", "main")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "STEPS": "2", "PYTHONPATH": str(ROOT)}
    scratch = tmp_path / "scratch"
    arguments = ["bash", str(SCRIPT), "main", "pull", str(scratch)]
    return subprocess.run(arguments, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def test_an_honest_archive_passes_whatever_it_is_called(repository, tmp_path):
    shutil.copy(tmp_path / "bob.zip", repository / "results" / "contributed" / "$(touch HACKED) \n::error::.zip")
    (repository / "sitecustomize.py").write_text("raise SystemExit('the pull request was run')")
    done = verify(repository, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 repeated runs confirmed" in done.stdout
    assert "1 archives, 0 refusals" in done.stdout
    assert "\n::error::" not in done.stdout
    assert not (repository / "HACKED").exists()


def test_an_archive_that_is_damaged_or_contradicts_is_refused(repository, tmp_path, estbench):
    (repository / "results" / "contributed" / "half.zip").write_bytes((tmp_path / "bob.zip").read_bytes()[:1000])
    for file in (tmp_path / "made" / "ann" / "cells").glob("*/cell.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(record | {"evaluations": record["evaluations"] + 1}), encoding="utf-8")
    out = repository / "results" / "contributed" / "other.zip"
    assert estbench("pack", tmp_path / "made" / "ann", "-o", out).code == 0
    done = verify(repository, tmp_path)
    assert done.returncode == 1
    assert "no archive of `estbench pack`" in " ".join(done.stderr.split())
    assert "with different content" in " ".join(done.stderr.split())


def test_an_archive_may_be_replaced_or_nothing_be_changed(repository, tmp_path):
    shutil.copy(tmp_path / "bob.zip", repository / "results" / "contributed" / "ann" / "tiny.zip")
    done = verify(repository, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    git(repository, "branch", "-f", "pull", "main")
    git(repository, "checkout", "-q", "pull")
    (repository / "README").write_text("x")
    assert "no archive was added" in verify(repository, tmp_path).stdout


def test_the_workflow_runs_nothing_of_the_pull_request():
    text = (ROOT / ".github" / "workflows" / "results.yml").read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "ref: ${{ github.event.pull_request.base.sha }}" in text
    assert "persist-credentials: false" in text
    assert text.count("permissions:") == 1
    assert "permissions:\n  contents: read\n" in text
    script = text.partition("run: |")[2]
    assert "${{" not in script  # no text of the pull request becomes a part of the script
