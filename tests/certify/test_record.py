"""Certificates on disk: what is read is what was written, and what it says holds for one source and no other."""

from __future__ import annotations

import json

import pytest

from estbench.certify import certify, record
from estbench.certify.record import (
    Certificate,
    CertificateStatus,
    Check,
    CheckOutcome,
    certificate_status,
    find_certificates,
    save_certificate,
    shipped_certificates,
    update_shipped,
)
from estbench.errors import EstbenchError


def certificate(label="mine[depth=2]", outcome=CheckOutcome.PASSED, source="abc", checks=None):
    made = checks or (Check(name="precision", outcome=outcome, evidence="float32 and float64", problem="one"),)
    return Certificate(
        label=label, fingerprint=source, outcome=outcome, checks=made, versions={"torch": "2"}, seconds=1.5
    )


@pytest.fixture(autouse=True)
def _nothing_ships(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "shipped.json")


def test_what_is_saved_is_found_again():
    path = save_certificate(certificate())
    assert path.as_posix() == "results/certificates/mine-depth-2.json"
    assert find_certificates("mine[depth=2]") == [certificate()]
    assert json.loads(path.read_text())["outcome"] == "passed"


@pytest.mark.parametrize("outcome", [CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.INCONCLUSIVE])
def test_a_certificate_holds_for_its_own_source(outcome):
    assert certificate_status("mine[depth=2]", "abc") is CertificateStatus.NONE
    save_certificate(certificate(outcome=outcome))
    assert certificate_status("mine[depth=2]", "abc") == outcome
    assert certificate_status("mine[depth=2]", "another") is CertificateStatus.STALE
    assert certificate_status("mine[depth=3]", "abc") is CertificateStatus.NONE


def test_other_options_of_one_that_passed_are_said_to_be_that():
    save_certificate(certificate("mine"))
    assert certificate_status("mine[depth=3]", "abc") is CertificateStatus.OTHER
    assert certificate_status("mine[depth=3]", "another") is CertificateStatus.NONE
    save_certificate(certificate("mine", CheckOutcome.FAILED))
    assert certificate_status("mine[depth=3]", "abc") is CertificateStatus.NONE


def test_the_user_s_own_comes_before_the_one_that_ships(tmp_path):
    update_shipped([certificate("mine"), certificate("other")], {"mine", "other"})
    assert certificate_status("mine", "abc") is CertificateStatus.PASSED
    save_certificate(certificate("mine", CheckOutcome.FAILED), tmp_path / "elsewhere")
    assert certificate_status("mine", "abc") is CertificateStatus.PASSED
    assert certificate_status("mine", "abc", tmp_path / "elsewhere") is CertificateStatus.FAILED
    # A stale one of the user's own does not hide a valid one.
    save_certificate(certificate("other", CheckOutcome.FAILED, source="old"))
    assert certificate_status("other", "abc") is CertificateStatus.PASSED


def test_what_ships_is_condensed_and_loses_what_is_no_longer_there():
    checks = tuple(
        Check(name="unbiased", outcome=outcome, evidence=f"severity {severity}", problem=problem, severity=severity)
        for problem, outcome, severity in (
            ("one", CheckOutcome.PASSED, 0.2),
            ("two", CheckOutcome.PASSED, 0.9),
            ("three", CheckOutcome.NOT_APPLICABLE, 0.0),
        )
    )
    update_shipped([certificate("mine", checks=checks), certificate("gone")], {"mine", "gone"})
    update_shipped([], {"mine"})
    assert list(shipped_certificates()) == ["mine"]
    (check,) = shipped_certificates()["mine"].checks
    assert (check.problem, check.num_problems, check.severity) == ("two", 2, 0.9)


def test_what_did_not_pass_is_said_once_for_each_kind():
    checks = tuple(
        Check(
            name=name, outcome=outcome, evidence="", problem="here", severity=severity, message=f"{severity} too much"
        )
        for name, outcome, severity in (
            ("unbiased", CheckOutcome.FAILED, 2.0),
            ("unbiased", CheckOutcome.FAILED, 3.0),
            ("supports", CheckOutcome.INCONCLUSIVE, 0.0),
            ("precision", CheckOutcome.PASSED, 0.0),
        )
    )
    assert certificate(outcome=CheckOutcome.FAILED, checks=checks).complaints() == [
        "unbiased failed on 'here': 3.0 too much",
        "supports inconclusive on 'here': 0.0 too much",
    ]


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 1}', '{"schema": 99}', '{"schema": 1, "label": 3}', "[]", "null"]
)
def test_a_damaged_certificate_is_none(text):
    path = save_certificate(certificate("mine"))
    path.write_text(text)
    assert certificate_status("mine", "abc") is CertificateStatus.NONE


def test_a_certificate_of_another_label_is_not_taken():
    save_certificate(certificate("mine[a=1]")).rename("results/certificates/mine-a-2.json")
    assert find_certificates("mine[a=2]") == []


@pytest.mark.parametrize("label", ["../../evil", "..", "/etc/passwd", "a" * 500])
def test_a_label_cannot_leave_the_folder(label, tmp_path):
    path = save_certificate(certificate(label), tmp_path / "certificates")
    assert path.resolve().parent == tmp_path / "certificates"


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EstbenchError, match="choose another with --out"):
        save_certificate(certificate(), tmp_path / "file")


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (("passed", "passed"), CertificateStatus.PASSED),
        (("passed", "failed"), CertificateStatus.FAILED),
        (("inconclusive", "passed"), CertificateStatus.INCONCLUSIVE),
        (("passed", None), CertificateStatus.NONE),
    ],
)
def test_an_estimator_for_each_latent_has_the_worst_status_of_its_parts(outcomes, status):
    names = ("mine", "yours[depth=2]")
    for name, outcome in zip(names, outcomes, strict=True):
        if outcome is not None:
            save_certificate(certificate(name, CheckOutcome(outcome), name[0]))
    label = f"per_latent[y={names[0]},z={names[1]}]"
    assert certificate_status(label, "m+y") == status
    assert certificate_status(label, "m+x") in {status, CertificateStatus.STALE}
    assert certificate_status(label, "m") in {status, CertificateStatus.STALE}
    assert certificate_status("per_latent[", "m") is CertificateStatus.NONE


def test_an_estimator_for_each_latent_is_checked_by_its_parts():
    with pytest.raises(EstbenchError, match="has the certificates of its estimators; certify rloo and stl"):
        certify("per_latent[y=rloo,z=stl]")
