"""What a report says about the certificates of its estimators."""

from __future__ import annotations

import dataclasses

import pytest
from records import write_results

from estbench.certify import record
from estbench.certify.record import Certificate, Check, CheckOutcome, save_certificate
from estbench.report.analysis import frames
from estbench.report.analysis.notices import notices, uncertified
from estbench.store import ResultsFolder, load


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of two estimators; nothing ships, and nothing lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "none.json")
    return load(write_results(tmp_path / "results" / "r", ["reparam", "stl"], 2, replicates=0, rounds=0))


def claim(results, estimator, *statuses, source="abc"):
    """Put a claim into each of an estimator's records."""
    cells = frames.cells(results)
    folders = cells.loc[cells["estimator"] == estimator, "folder"]
    for folder, status in zip(folders, statuses, strict=True):
        results.records[folder]["certificate"] = {"status": status, "fingerprint": source}


def made_since(label, outcome, source="abc"):
    check = Check(name="precision", outcome=outcome, evidence="")
    certificate = Certificate(label=label, fingerprint=source, outcome=outcome, checks=(check,))
    save_certificate(certificate)


def named(results):
    """What is named of the records and certificates as they are now: one ``Results`` is asked once."""
    return uncertified(dataclasses.replace(results))


def test_records_without_a_claim_have_none(results):
    assert named(results) == ["reparam (none)", "stl (none)"]


def test_what_passed_is_not_named(results):
    claim(results, "reparam", "passed", "passed")
    made_since("reparam", CheckOutcome.PASSED)
    assert named(results) == ["stl (none)"]
    claim(results, "stl", "passed", "passed")
    made_since("stl", CheckOutcome.PASSED)
    assert named(results) == []
    assert not any("certificate" in notice for notice in notices(dataclasses.replace(results)))


@pytest.mark.parametrize("source", ["abc", "", "def"])
def test_a_records_own_word_is_a_claim(results, source):
    """Whatever lies in the folder of the results, or beside it; and no certificate of another source counts."""
    claim(results, "reparam", "passed", "passed", source=source)
    check = Check(name="precision", outcome=CheckOutcome.PASSED, evidence="")
    forged = Certificate(label="reparam", fingerprint=source, outcome=CheckOutcome.PASSED, checks=(check,))
    for folder in (
        results.path,
        results.path / "certificates",
        ResultsFolder(results.path.parent / "x" / "y").certificates,
    ):
        save_certificate(forged, folder)
    made_since("reparam", CheckOutcome.PASSED, source="ghi")
    assert named(results)[0] == "reparam (claimed by the record)"


def test_all_cells_must_have_passed(results):
    claim(results, "reparam", "passed", "failed")
    assert frames.certificate(results, "reparam") == "none"


@pytest.mark.parametrize(
    ("outcome", "said"), [(CheckOutcome.FAILED, "it failed"), (CheckOutcome.INCONCLUSIVE, "inconclusive")]
)
def test_one_that_was_made_since_counts(results, outcome, said):
    claim(results, "reparam", "none", "none")
    made_since("reparam", outcome)
    assert named(results)[0] == f"reparam ({said})"
    made_since("reparam", CheckOutcome.PASSED)
    assert named(results) == ["stl (none)"]


def test_one_of_another_source_does_not(results):
    claim(results, "reparam", "none", "none")
    made_since("reparam", CheckOutcome.PASSED, source="later")
    assert named(results)[0] == "reparam (of another version of its source)"


@pytest.mark.parametrize("broken", [None, 3, "passed", [], {"status": 7}, {"status": "sure"}])
def test_a_claim_that_makes_no_sense_is_none(results, broken):
    for cell in results.records.values():
        cell["certificate"] = broken
    assert named(results) == ["reparam (none)", "stl (none)"]
