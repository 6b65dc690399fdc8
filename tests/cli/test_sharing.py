"""Pack, fetch, verify, add to: what one person publishes, another can check and go on with."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from estbench.execution import reference_results
from estbench.execution.reference_results import Published
from estbench.store import load

pytestmark = pytest.mark.usefixtures("quick_report")


@pytest.fixture
def published(estbench, tiny_file, tmp_path, monkeypatch):
    """A folder with results, and the archive of them."""
    monkeypatch.chdir(tmp_path)
    assert estbench("run", tiny_file, "-e", "reparam", "-e", "rloo", "--seeds", "2", "--out", "results/tiny").code == 0
    answer = estbench("pack", "results/tiny", "-o", "tiny.zip")
    assert answer.code == 0
    assert hashlib.sha256((tmp_path / "tiny.zip").read_bytes()).hexdigest() in answer.out
    return tmp_path


def test_pack_says_what_it_packed_and_what_is_missing(estbench, published):
    shutil.rmtree(next(published.glob("results/tiny/cells/rloo*")))
    answer = estbench("pack", "results/tiny")
    assert "3 runs" in answer.out
    assert "1 planned run without a result" in answer.out
    assert (published / "results" / "tiny" / "records.zip").is_file()


def test_every_reader_takes_an_archive(estbench, published):
    assert estbench("report", "tiny.zip").code == 0
    assert (published / "tiny" / "report" / "report.html").is_file()
    assert estbench("compare", "tiny.zip", "reparam", "rloo").code == 0
    assert estbench("merge", "tiny.zip", "-o", "merged").code == 0
    assert len(load(published / "merged").records) == 4


def test_an_estimator_is_added_to_published_results(estbench, published, tiny_file):
    shutil.rmtree(published / "results")
    (published / "results" / "tiny").mkdir(parents=True)
    shutil.copy("tiny.zip", "results/tiny/records.zip")
    answer = estbench("run", tiny_file, "-e", "stl", "--seeds", "2", "--out", "results/tiny")
    assert answer.code == 0
    assert "4 published runs" in answer.out + answer.err
    results = load(published / "results" / "tiny")
    assert sorted(set(results.cells["estimator"])) == ["reparam", "rloo", "stl"]
    assert set(results.cells["status"]) == {"done"}
    assert "0 already done, 2 to do" in answer.out + answer.err


def test_verify_confirms_what_is_honest(estbench, published):
    answer = estbench("verify", "tiny.zip", "--steps", "5")
    assert answer.code == 0, answer
    assert "keys, numbers and certificates agree" in answer.out
    assert "2 of 2 repeated runs confirmed" in answer.out


def test_verify_refuses_what_is_not_and_runs_nothing(estbench, published, monkeypatch):
    file = next(published.glob("results/tiny/cells/rloo*/cell.json"))
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(record | {"step": 1}), encoding="utf-8")
    monkeypatch.setattr("estbench.execution.verify.repeat", lambda *_: pytest.fail("it was run"))
    answer = estbench("verify", "results/tiny")
    assert answer.code == 1
    assert "refused: it is called done before its last step: rloo-" in answer.out


def test_verify_can_leave_the_running_out(estbench, published, monkeypatch):
    monkeypatch.setattr("estbench.execution.verify.repeat", lambda *_: pytest.fail("it was run"))
    assert estbench("verify", "tiny.zip", "--no-repeat").code == 0


@pytest.mark.parametrize("command", ["verify", "report", "fetch-results"])
def test_what_is_no_archive_is_misuse(estbench, tmp_path, command):
    (tmp_path / "x.zip").write_bytes(b"no archive")
    answer = estbench(command, tmp_path / "x.zip")
    assert answer.code == 2
    assert "no archive of `estbench pack`" in answer.err.replace("\n", " ")


def test_results_are_fetched_from_a_file_a_folder_and_a_name(estbench, published, monkeypatch):
    assert estbench("fetch-results", "tiny.zip", "-o", "a").code == 0
    digest = hashlib.sha256((published / "tiny.zip").read_bytes()).hexdigest()
    assert estbench("fetch-results", "tiny", "--from", published, "--sha256", digest, "-o", "b").code == 0
    wrong = estbench("fetch-results", "tiny", "--from", published, "--sha256", "0" * 64, "-o", "c")
    assert wrong.code == 2
    assert digest in wrong.err.replace("\n", "")
    assert not (published / "c").exists()
    again = estbench("fetch-results", "tiny.zip", "-o", "a")
    assert again.code == 2
    assert "exists already" in again.err
    assert len(load("a").records) == len(load("b").records) == 4


def test_an_unknown_name_is_told(estbench, monkeypatch):
    monkeypatch.setattr(reference_results, "reference_results", lambda: {"mnist_gaussian": Published("0" * 64, 10)})
    answer = estbench("fetch-results", "mnist_gausian")
    assert answer.code == 2
    assert "did you mean 'mnist_gaussian'?" in answer.err.replace("\n", " ")


def test_an_address_needs_a_digest(estbench):
    answer = estbench("fetch-results", "https://example.org/x.zip")
    assert answer.code == 2
    assert "--sha256" in answer.err


def test_the_history_says_what_is_stale(estbench, published, monkeypatch):
    answer = estbench("log", "results/tiny")
    assert answer.code == 0
    assert "current" in answer.out
    file = next(published.glob("results/tiny/cells/rloo*/cell.json"))
    record = json.loads(file.read_text(encoding="utf-8"))
    record["certificate"]["fingerprint"] = "0" * 64
    file.write_text(json.dumps(record), encoding="utf-8")
    answer = estbench("log", "results/tiny")
    assert "stale: the source of the estimator has changed since" in answer.out.replace("\n", " ")
    entries = json.loads(estbench("log", "results/tiny", "--json").out)["runs"]
    assert len(entries) == 4
    assert sorted({entry["state"] for entry in entries}) == ["current", "stale"]
    assert entries == sorted(entries, key=lambda entry: (entry["finished"], entry["folder"]))


def test_runs_of_another_protocol_are_in_the_history(estbench, published, tiny_file):
    assert estbench("run", tiny_file, "-e", "reparam", "--steps", "7", "--out", "results/tiny").code == 0
    states = [entry["state"] for entry in json.loads(estbench("log", "results/tiny", "--json").out)["runs"]]
    assert states.count("not in the plan") == 4
    assert states.count("current") == 1
