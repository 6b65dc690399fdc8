"""What a report says about the certificates of its estimators."""

from __future__ import annotations

import pytest
from records import analyse, write_results

from estbench.certify import record
from estbench.certify.record import Certificate, Check, CheckOutcome, save_certificate
from estbench.report.analysis import Analysis
from estbench.store import ResultsFolder


@pytest.fixture
def analysis(tmp_path, monkeypatch):
    """A folder of two estimators; nothing ships, and nothing lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "none.json")
    return analyse(write_results(tmp_path / "results" / "r", ["reparam", "stl"], 2, replicates=0, rounds=0))


def claim(analysis, estimator, *statuses, source="abc"):
    """Put a claim into each of an estimator's records."""
    cells = analysis.cells
    folders = cells.loc[cells["estimator"] == estimator, "folder"]
    for folder, status in zip(folders, statuses, strict=True):
        analysis.results.records[folder]["certificate"] = {"status": status, "fingerprint": source}


def made_since(label, outcome, source="abc"):
    check = Check(name="precision", outcome=outcome, evidence="")
    certificate = Certificate(label=label, fingerprint=source, outcome=outcome, checks=(check,))
    save_certificate(certificate)


def named(analysis):
    """What is named of the records and certificates as they are now: one ``Results`` is asked once."""
    return Analysis(analysis.results).uncertified


def test_records_without_a_claim_have_none(analysis):
    assert named(analysis) == ["reparam (none)", "stl (none)"]


def test_what_passed_is_not_named(analysis):
    claim(analysis, "reparam", "passed", "passed")
    made_since("reparam", CheckOutcome.PASSED)
    assert named(analysis) == ["stl (none)"]
    claim(analysis, "stl", "passed", "passed")
    made_since("stl", CheckOutcome.PASSED)
    assert named(analysis) == []
    assert not any("certificate" in notice for notice in Analysis(analysis.results).notices)


@pytest.mark.parametrize("source", ["abc", "", "def"])
def test_a_records_own_word_is_a_claim(analysis, source):
    """Whatever lies in the folder of the results, or beside it; and no certificate of another source counts."""
    claim(analysis, "reparam", "passed", "passed", source=source)
    check = Check(name="precision", outcome=CheckOutcome.PASSED, evidence="")
    forged = Certificate(label="reparam", fingerprint=source, outcome=CheckOutcome.PASSED, checks=(check,))
    for folder in (
        analysis.path,
        analysis.path / "certificates",
        ResultsFolder(analysis.path.parent / "x" / "y").certificates,
    ):
        save_certificate(forged, folder)
    made_since("reparam", CheckOutcome.PASSED, source="ghi")
    assert named(analysis)[0] == "reparam (claimed by the record)"


def test_all_cells_must_have_passed(analysis):
    claim(analysis, "reparam", "passed", "failed")
    assert Analysis(analysis.results).certificate("reparam") == "none"


@pytest.mark.parametrize(
    ("outcome", "said"), [(CheckOutcome.FAILED, "it failed"), (CheckOutcome.INCONCLUSIVE, "inconclusive")]
)
def test_one_that_was_made_since_counts(analysis, outcome, said):
    claim(analysis, "reparam", "none", "none")
    made_since("reparam", outcome)
    assert named(analysis)[0] == f"reparam ({said})"
    made_since("reparam", CheckOutcome.PASSED)
    assert named(analysis) == ["stl (none)"]


def test_one_of_another_source_does_not(analysis):
    claim(analysis, "reparam", "none", "none")
    made_since("reparam", CheckOutcome.PASSED, source="later")
    assert named(analysis)[0] == "reparam (of another version of its source)"


@pytest.mark.parametrize("broken", [None, 3, "passed", [], {"status": 7}, {"status": "sure"}])
def test_a_claim_that_makes_no_sense_is_none(analysis, broken):
    for cell in analysis.results.records.values():
        cell["certificate"] = broken
    assert named(analysis) == ["reparam (none)", "stl (none)"]


def test_one_that_failed_is_a_sentence_of_the_answer_and_of_the_warnings(analysis):
    claim(analysis, "reparam", "passed", "passed")
    made_since("reparam", CheckOutcome.PASSED)
    claim(analysis, "stl", "failed", "failed")
    made_since("stl", CheckOutcome.FAILED)
    again = Analysis(analysis.results)
    said = [conclusion.text for conclusion in again.conclusions if conclusion.kind == "outcome"]
    assert said == ["stl failed its certificate: its gradient is wrong."]
    (notice,) = [line for line in again.notices if "certificate" in line]
    assert notice.startswith("stl failed its certificate: its gradient is not what it declares")
