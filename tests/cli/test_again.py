"""A run that is done is printed again from its note, and never if anything that it depends on has changed."""

from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from estbench.cli import again
from estbench.cli.again import Note
from estbench.cli.console import Answer
from estbench.cli.layout import Column
from estbench.experiment.spec import experiment_from

ANSWER = Answer("tiny", [Column("rank"), Column("estimator", "name", keep=True)], [["1", "reparam"]], "none", ["Good."])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that stands for that of estbench."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(again, "PACKAGE", folder)
    return folder


@pytest.fixture
def note(tmp_path, tiny, package):
    """Return the note of an experiment whose results are in a folder; it has been written."""
    out = tmp_path / "results"
    for name in ("experiment.json", "cells/a/cell.json", "cells/a/curves.parquet", "report/report.html", "records.zip"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)

    def make(changes=None, **options):
        return Note(experiment_from(tiny | (changes or {})), str(out), **{"device": "auto", **options})

    make().write("tiny: all done", ANSWER, out / "report" / "report.html")
    return make


def test_what_was_printed_is_printed_again(note, capsys, tmp_path):
    assert note().print_again()
    said = capsys.readouterr().out
    assert said.startswith("tiny: all done\ntiny\n")
    assert "1     reparam" in said
    assert said.endswith(f"none\nGood.\nreport: {tmp_path}/results/report/report.html\n")


def test_nothing_is_printed_without_a_note(tiny, tmp_path, capsys):
    assert not Note(experiment_from(tiny), str(tmp_path / "nothing")).print_again()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 2},
        {"training": {"steps": 9}},
        {"evaluation": {"metrics": ["gradient_norm"]}},
        {"question": "Another one?"},
        {"probe": {"replicates": 3}},
    ],
    ids=str,
)
def test_another_experiment_is_run(note, change):
    assert not note(change).print_again()


def test_another_device_is_run(note):
    assert not note(device="cpu").print_again()


@pytest.mark.parametrize(
    "name",
    ["experiment.json", "cells/a/cell.json", "cells/a/curves.parquet", "report/report.html", "records.zip"],
)
@pytest.mark.parametrize("change", ["edited", "removed", "touched"])
def test_a_changed_file_of_the_results_is_seen(note, tmp_path, name, change):
    path = tmp_path / "results" / name
    match change:
        case "edited":
            path.write_text(f"{name} more")
        case "removed":
            path.unlink()
        case _:
            path.write_text(name)  # the same bytes, at another time
    assert not note().print_again()


@pytest.mark.parametrize("name", ["cells/b/cell.json", "report/tables/new.csv", "cells/.a.attempts"])
def test_a_new_file_of_the_results_is_seen(note, tmp_path, name):
    path = tmp_path / "results" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert not note().print_again()


def test_changed_code_is_seen(note, package):
    (package / "module.py").write_text("x = 12\n")
    assert not note().print_again()


def test_compiled_code_is_not_looked_at(note, package):
    (package / "module.pyc").write_bytes(b"")
    assert note().print_again()


def test_another_version_of_a_library_is_seen(note, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 99")
    assert not note().print_again()


def test_where_another_package_adds_to_estbench_there_is_no_note(note, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "entry_points", lambda: SimpleNamespace(groups={"estbench.estimators", "other"}))
    assert not note().print_again()
    other = Note(experiment_from(tiny), str(tmp_path / "other"))
    other.write("", ANSWER, tmp_path)
    assert not (tmp_path / "other").exists()


def test_with_data_of_ones_own_there_is_no_note(tiny, tmp_path, package):
    experiment = experiment_from({**tiny, "problems": ['vae[dataset="file:images.npy"]']})
    note = Note(experiment, str(tmp_path))
    note.write("", ANSWER, tmp_path)
    assert not (tmp_path / again.NOTE).exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda note: note.pop("answer"),
        lambda note: note.update(answer=7),
        lambda note: note.update(answer={"title": "tiny"}),
        lambda note: note["answer"].update(rows=[[1]]),
        lambda note: note["answer"].update(rows=[["1"]]),
        lambda note: note["answer"].update(columns=[["a", "b", "c", "d", "e", "f", "g"]]),
        lambda note: note["answer"]["columns"][0].__setitem__(1, "unknown kind"),
        lambda note: note["answer"].update(sentences={"a": 1}),
        lambda note: note.update(schema=1),
        lambda note: note.update(fingerprint=None),
    ],
)
def test_a_damaged_note_counts_as_none(note, edit, tmp_path, capsys):
    path = tmp_path / "results" / again.NOTE
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    assert not note().print_again()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_note_that_is_no_document_counts_as_none(note, content, tmp_path):
    (tmp_path / "results" / again.NOTE).write_bytes(content)
    assert not note().print_again()


def test_a_stranger_cannot_steer_the_terminal(note, tmp_path, capsys):
    path = tmp_path / "results" / again.NOTE
    content = json.loads(path.read_text())
    content["planned"] = content["page"] = content["answer"]["sentences"][0] = "\x1b[2J"
    path.write_text(json.dumps(content))
    assert note().print_again()
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.usefixtures("quick_report")
def test_a_command_says_the_same_again_and_computes_only_what_it_is_told_to(estbench, here, tiny_file, monkeypatch):
    run = ("run", tiny_file, "--out", here / "out", "--set", "throughput.rounds=0")
    assert estbench(*run).code == 0
    reports = []
    monkeypatch.setattr("estbench.report.build", lambda *_, **__: reports.append(1) or here / "report.html")
    second, third = estbench(*run), estbench(*run)
    assert second == third
    assert second.out.startswith("tiny on vae")
    assert "1 already done, 0 to do" in second.out
    assert reports == []
    assert estbench(*run, "--force").code == 0
    assert estbench(*run, "--steps", "3").code == 0
    assert len(reports) == 2
