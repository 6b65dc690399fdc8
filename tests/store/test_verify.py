"""Records of a stranger: honest ones pass, and whoever changes a number, a key or a certificate is found."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from records import write_results

from estbench.store import load
from estbench.store.verify import inspect


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("honest") / "r", ["reparam", "stl"], 2, shared=True)


@pytest.fixture
def folder(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "r")


def first(folder, name="cell.json"):
    return min(folder.glob(f"cells/*/{name}"))


def findings(folder, certificates=()):
    return inspect(load(folder), list(certificates))


def refusals(folder, certificates=()):
    return [finding.message for finding in findings(folder, certificates) if finding.refused]


def change_record(folder, change):
    file = first(folder)
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def change_table(folder, name, change):
    file = first(folder, name)
    frame = pd.read_parquet(file)
    change(frame).to_parquet(file, index=False)


def test_honest_records_are_not_refused(folder):
    assert refusals(folder) == []


def set_where(column, value, **where):
    def change(frame):
        chosen = pd.Series(data=True, index=frame.index)
        for name, wanted in where.items():
            chosen &= frame[name] == wanted
        assert chosen.any()
        frame.loc[chosen, column] = value(frame.loc[chosen, column]) if callable(value) else value
        return frame

    return change


TABLES = {
    "a better bound": (
        "curves.parquet",
        set_where("value", lambda v: v + 5, metric="elbo", split="test"),
        "its ELBO is not",
    ),
    "no last evaluation": (
        "curves.parquet",
        lambda frame: frame[frame["step"] < frame["step"].max()],
        "lack evaluations",
    ),
    "an evaluation more": ("curves.parquet", lambda frame: frame.assign(step=frame["step"] + 1), "not planned"),
    "two values": ("curves.parquet", lambda frame: pd.concat([frame, frame]), "two values of one quantity"),
    "a clock": ("curves.parquet", lambda frame: frame.assign(seconds=-frame["seconds"]), "its clock goes backwards"),
    "no number": ("curves.parquet", set_where("value", float("nan"), metric="iwae"), "not finite"),
    "a negative variance": ("gradients.parquet", set_where("value", lambda v: -v, statistic="variance"), "is negative"),
    "a smaller variance": (
        "gradients.parquet",
        set_where("value", lambda v: v / 10, statistic="variance"),
        "outside its interval",
    ),
    "a better ratio": (
        "gradients.parquet",
        set_where("value", lambda v: 2 * v + 1, statistic="snr"),
        "signal-to-noise",
    ),
    "more draws": ("gradients.parquet", lambda frame: frame.assign(replicates=10_000), "another number of draws"),
}
RECORDS = {
    "steps": (lambda record: record.update(step=1), "done before its last step"),
    "examples": (lambda record: record.update(examples=10**12), "more examples than its steps have"),
    "evaluations": (lambda record: record.update(evaluations=0), "no evaluation of f"),
    "another cell": (lambda record: record["cell"].update(key="0" * 64), "record is of another run"),
}


@pytest.mark.parametrize(("name", "change", "message"), TABLES.values(), ids=TABLES)
def test_a_changed_number_is_found(folder, name, change, message):
    change_table(folder, name, change)
    assert any(message in refusal for refusal in refusals(folder)), refusals(folder)


@pytest.mark.parametrize(("change", "message"), RECORDS.values(), ids=RECORDS)
def test_a_changed_record_is_found(folder, change, message):
    change_record(folder, change)
    assert any(message in refusal for refusal in refusals(folder)), refusals(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cell: cell.update(key="a" * 64), "its key is not that of its settings"),
        (lambda cell: cell.update(seed=7), "its key is not that of its settings"),
        (lambda cell: cell["training"].update(steps=9), "its key is not that of its settings"),
        (lambda cell: cell["estimator"].update(version=2), "its key is not that of its settings"),
    ],
)
def test_keys_are_computed_again(folder, change, message):
    plan = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    change(plan["cells"][0])
    (folder / "experiment.json").write_text(json.dumps(plan), encoding="utf-8")
    assert any(message in refusal for refusal in refusals(folder))


def test_a_missing_run_is_noted_and_not_refused(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 2, statuses={("reparam", 1): None})
    (note,) = [finding for finding in findings(path) if "without a result" in finding.message]
    assert not note.refused


def certificate(label="reparam", fingerprint="f" * 64, outcome="passed"):
    check = {"name": "unbiased", "outcome": outcome, "evidence": "z"}
    return {"label": label, "fingerprint": fingerprint, "outcome": outcome, "checks": [check]}


def claim(folder, fingerprint):
    for file in folder.glob("cells/reparam*/cell.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["certificate"] = {"status": "passed", "fingerprint": fingerprint}
        file.write_text(json.dumps(record), encoding="utf-8")


def about(folder, certificates, label="reparam"):
    return [finding for finding in findings(folder, certificates) if finding.message.startswith(f"{label}:")]


def test_a_certificate_of_the_source_is_enough(folder):
    claim(folder, "f" * 64)
    assert about(folder, [certificate()]) == []


def test_a_certificate_of_another_source_is_refused(folder):
    claim(folder, "e" * 64)
    (found,) = about(folder, [certificate()])
    assert found.refused
    assert "of another source than its numbers" in found.message


def test_a_certificate_that_failed_is_refused(folder):
    claim(folder, "f" * 64)
    (found,) = about(folder, [certificate(outcome="failed")])
    assert found.refused


def test_without_any_certificate_that_is_said(folder):
    claim(folder, "e" * 64)
    (found,) = about(folder, [])
    assert not found.refused
    assert "no certificate is known" in found.message


@pytest.mark.parametrize("damaged", [{"label": "reparam"}, [1], "text", {"label": "reparam", "checks": "x"}])
def test_a_damaged_certificate_is_refused(folder, damaged):
    assert any("certificate cannot be read" in refusal for refusal in refusals(folder, [damaged]))


def test_runs_of_two_sources_are_refused(folder):
    change_record(folder, lambda record: record.update(certificate={"status": "passed", "fingerprint": "a" * 64}))
    assert any("different sources" in refusal for refusal in refusals(folder))
