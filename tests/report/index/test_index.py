"""The index: what stands on it comes from records or tables, and no folder of a stranger can break it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from urllib.parse import unquote

import pytest
import records
from records import drawn_alone, write_results

from estbench import EstbenchError
from estbench.report import build
from estbench.report.index import build_index, finding
from estbench.report.index.matrix import build_matrix
from estbench.stats import Interval

LIGHT = {"replicates": 0, "rounds": 1}
EVIL = '<script>alert("x")</script>'
FAILED = {("stl", 0): "diverged", ("detached", 1): "failed", ("detached", 2): None}
STOPS = {("stl", 0): 500, ("detached", 1): 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three experiments with their reports: one with a collapse and all kinds of ends, two of a few runs."""
    root = tmp_path_factory.mktemp("index") / "results"
    several = ["reparam", "stl", "rloo[num_samples=4]", "reinforce", "detached"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(records.BEHAVIOURS, "reinforce", records.BEHAVIOURS["reinforce"]._replace(elbo=-900.0))
        write_results(root / "ends", several, 3, statuses=FAILED, stops=STOPS, answer="Mine is the best.", **LIGHT)
    problems = ["vae[latent_size=4]", "vae[latent_size=5]"]
    write_results(root / "group" / "twice", ["reparam", "stl"], 5, problems=problems, question="Which one?", **LIGHT)
    write_results(root / "one", ["reparam"], 1, name="alone", **LIGHT)
    with drawn_alone("draw_final_bounds"):  # the index has no figures
        for folder in (root / "ends", root / "group" / "twice", root / "one"):
            build(folder, ["csv", "html"])
    return root


def read(page):
    return page.read_text(encoding="utf-8")


def forget_records(folder):
    """Leave only the report, as in a repository."""
    shutil.rmtree(folder / "cells")
    (folder / "experiment.json").unlink()
    (folder / "throughput.parquet").unlink()


@pytest.fixture
def recorded(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "results")


@pytest.fixture
def root(recorded):
    """A copy with the records of only one experiment, which is read faster."""
    forget_records(recorded / "ends")
    forget_records(recorded / "group" / "twice")
    return recorded


def rankings(folder):
    """The rows of a report's ranking, by problem and estimator."""
    with (folder / "report" / "tables" / "ranking.csv").open(encoding="utf-8") as file:
        return {(row["problem"], row["estimator"]): row for row in csv.DictReader(file)}


def test_every_experiment_is_listed_with_its_facts(recorded):
    entries = {entry.place: entry for entry in build_index(recorded).entries}
    assert list(entries) == ["ends", "group/twice", "one"]
    assert {place: entry.page for place, entry in entries.items()} == {
        place: f"{place}/report/report.html" for place in entries
    }
    assert [entry.name for entry in entries.values()] == ["comparison", "comparison", "alone"]
    assert [entry.runs for entry in entries.values()] == ["14 of 15 runs", "20 runs", "1 run"]
    assert {(entry.date, entry.commit) for entry in entries.values()} == {("2025-01-01", "commit 0123abc")}
    assert entries["group/twice"].question == "Which one?"
    assert entries["ends"].texts == ["Mine is the best."]
    assert [len(entry.answers) for entry in entries.values()] == [1, 2, 1]
    assert [list(entry.names.values()) for entry in entries.values()][1] == ["latent_size = 4", "latent_size = 5"]
    assert [bool(entry.common) for entry in entries.values()] == [False, True, False]
    assert sorted(entries["ends"].ended) == [
        "Collapsed: reinforce (3 of 3).",
        "Diverged: stl (1 of 3).",
        "Failed: detached (1 of 3).",
        "Missing: detached (1 of 3).",
    ]


def test_the_computed_answer_is_that_of_the_report(root):
    for entry in build_index(root).entries:
        report = read(root / entry.place / "report" / "report.html")
        for answer in entry.answers:
            assert f'<p class="answer">{answer}</p>' in report


def test_a_report_alone_says_the_same_as_its_records(recorded):
    from_records = read(build_index(recorded).page)
    for folder in (recorded / "ends", recorded / "group" / "twice", recorded / "one"):
        forget_records(folder)
    assert read(build_index(recorded).page) == from_records


def test_the_matrix_holds_every_rank_and_gap(root):
    matrix = build_matrix(build_index(root).entries)
    assert [len(group.columns) for group in matrix.groups] == [1, 2, 1]
    assert matrix.estimators[:2] == ["reparam", "stl"]  # those in the most columns first
    assert matrix.biased == {"detached"}
    for group in matrix.groups:
        for column in group.columns:
            for label, square in column.squares.items():
                row = rankings(root / group.entry.place)[column.problem, label]
                if not row["rank"]:
                    assert square.kind == "out"
                    continue
                assert square.text == row["rank"].removesuffix(".0")
                if row["gap_n"] == "0" and square.text != "1":
                    assert square.notes[0] == "no common seed"
                    continue
                number = -float(row["bound"]) if square.text == "1" else float(row["gap"])
                assert abs(float(square.notes[0].lstrip("\N{MINUS SIGN}").split()[0]) - number) < 0.06


def test_what_went_wrong_has_a_sign(root):
    ends = build_matrix(build_index(root).entries).groups[0].columns[0].squares
    assert ends["reinforce"].notes == ["\N{DOWNWARDS ARROW} collapsed 3 of 3"]
    assert ends["stl"].notes[-1] == "\N{MULTIPLICATION SIGN} diverged 1 of 3"
    assert ends["reparam"].kind in {"best", "decided", "behind"}


def test_only_a_shown_difference_has_a_star(root):
    entries = build_index(root).entries
    for entry in entries:
        for board in entry.boards:
            unclear = [
                entrant._replace(gap=entrant.gap._replace(p=0.5)) if entrant.rank != 1 else entrant
                for entrant in board.entrants
            ]
            shown, hidden = (
                build_matrix([entry._replace(boards=[each])]).columns[0].squares
                for each in (board, board._replace(entrants=unclear))
            )
            for entrant in board.contenders[1:]:
                assert shown[entrant.estimator].notes[0].endswith("*") is entrant.is_behind
                assert not hidden[entrant.estimator].notes[0].endswith("*")
            leader = board.contenders[0].estimator
            assert (shown[leader].kind == "decided") is (board.winner == leader)
            assert hidden[leader].kind == "best"


def test_a_wide_matrix_is_cut_and_says_so(root):
    entry = build_index(root).entries[-1]
    (board,) = entry.boards
    wide = entry._replace(boards=[board._replace(problem=f"p{at}") for at in range(150)])
    many = board._replace(
        entrants=[
            board.entrants[0]._replace(estimator=f"e{at}", bound=Interval(-1.0, -1.0, -1.0, 1)) for at in range(400)
        ]
    )
    assert (len(build_matrix([wide]).columns), build_matrix([wide]).left_out) == (100, 50)
    matrix = build_matrix([entry._replace(boards=[many])])
    assert (len(matrix.estimators), matrix.left_out) == (300, 100)


def test_the_page_runs_no_code_and_fetches_nothing(root):
    text = read(build_index(root).page)
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:|//|javascript:|/)""", text)


@pytest.mark.usefixtures("one_figure")
def test_strings_of_records_are_escaped(root):
    write_results(root / "evil", ["reparam"], 1, question=EVIL, answer=EVIL, labels={"reparam": EVIL}, **LIGHT)
    build(root / "evil", ["csv", "html"])
    for change in (lambda: None, lambda: forget_records(root / "evil")):
        change()
        text = read(build_index(root).page)
        assert "<script" not in text
        assert "&lt;script&gt;" in text


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b & <c> %41", 'quote"d', "\u202edlrow"])
def test_a_strange_name_of_a_folder_is_only_a_name(root, name):
    (root / "one").rename(root / name)
    index = build_index(root)
    page = next(entry.page for entry in index.entries if entry.name == "alone")
    assert re.fullmatch(r"[A-Za-z0-9_.%/()-]+", page)  # no colon: it cannot be taken for a scheme
    assert unquote(page) == f"{name}/report/report.html"
    assert not {"<c>", "\u202e"} & set(re.findall(r"<c>|\u202e", read(index.page)))


# What may lie in a results folder, or in what looks like one; each with a word of the reason.
def _damage(file, content):
    def change(folder):
        (folder / file).write_text(content, encoding="utf-8")

    return change


def _without_records(change):
    def both(folder):
        forget_records(folder)
        change(folder)

    return both


def _link(folder):
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "ends")


def _pipe(folder):
    (folder / "experiment.json").unlink()
    os.mkfifo(folder / "experiment.json")


DAMAGED = {
    "half a plan": (_damage("experiment.json", "{"), "JSONDecodeError"),
    "an old plan": (_damage("experiment.json", '{"schema": 1}'), "earlier estbench"),
    "a plan of nothing": (_damage("experiment.json", "[]"), "cannot read"),
    "a link": (_link, "symbolic link"),
    "a pipe": (_pipe, "pipe"),
    "half a report": (_without_records(_damage("report/experiment.json", '{"experiment": ')), "JSONDecodeError"),
    "a list of nothing": (_without_records(_damage("report/experiment.json", "[1, 2]")), "TypeError"),
    "no environment": (_without_records(lambda folder: (folder / "report" / "environment.json").unlink()), "No such"),
    "strange environments": (_without_records(_damage("report/environment.json", '{"a": 1}')), "AttributeError"),
    "strange numbers": (_without_records(_damage("report/tables/ranking.csv", "problem,rank\nvae,x\n")), "KeyError"),
    "a wide field": (
        _without_records(_damage("report/tables/ranking.csv", f"problem\n{'x' * 200_000}\n")),
        "Error",
    ),
    "deep nesting": (_without_records(_damage("report/experiment.json", "[" * 100_000)), "RecursionError"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_cannot_be_read_is_left_out_with_the_reason(root, kind):
    damage, reason = DAMAGED[kind]
    damage(root / "one")
    index = build_index(root)
    assert [entry.place for entry in index.entries] == ["ends", "group/twice"]
    ((path, given),) = index.skipped
    assert path == "one"
    assert reason in given
    assert str(root) not in read(index.page)
    assert given.partition("'")[0] in read(index.page)


def test_what_lies_too_deep_is_named(root):
    (root / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    ((path, reason),) = build_index(root).skipped
    assert (path, "deep" in reason) == ("a/b/c/d/e", True)


def test_too_many_folders_are_refused(root, monkeypatch):
    monkeypatch.setattr(finding, "MOST_FOLDERS", 3)
    with pytest.raises(EstbenchError, match="more than 3 folders"):
        build_index(root)


def test_an_old_report_has_no_ranking(root):
    forget_records(root / "one")
    (root / "one" / "report" / "tables" / "ranking.csv").unlink()
    index = build_index(root)
    assert index.entries[-1].answers == []
    assert "No ranking is stored" in read(index.page)


def test_a_folder_without_a_page_has_no_link(root):
    shutil.rmtree(root / "one" / "report")
    index = build_index(root)
    assert index.entries[-1].page == ""
    assert "There is no page of this experiment" in read(index.page)


@pytest.mark.parametrize(
    ("column", "said"), [("outcome_of_claim", ": 2 reproduced, 1 contradicted."), ("other", "put to the test</a>.")]
)
def test_claims_are_counted_by_outcome(root, column, said):
    folder = root / "claims"
    folder.mkdir()
    (folder / "reproductions.html").write_text("a page")
    lines = [f"card,{column}", "a,reproduced", "a,reproduced", "b,contradicted", "c,reproduced"]
    (folder / "reproductions.csv").write_text("\n".join(lines))
    text = read(build_index(root).page)
    assert 'href="claims/reproductions.html"' in text
    assert said in text


def test_commits_and_changes_are_named(root):
    environments = [
        {"environment": {"commit": "a" * 40, "uncommitted": True}, "cells": ["x"]},
        {"environment": {"commit": "b" * 40, "uncommitted": False}, "cells": [], "finished": "2031-02-03T04:05"},
        {"environment": {}, "cells": []},
    ]
    forget_records(root / "one")
    (root / "one" / "report" / "environment.json").write_text(json.dumps(environments), encoding="utf-8")
    entry = build_index(root).entries[-1]
    assert entry.commit == f"commits {'a' * 10}, {'b' * 10}, with changes that are not committed"
    assert entry.date == "2031-02-03"


def test_the_same_files_give_the_same_bytes(root):
    first = build_index(root).page.read_bytes()
    assert build_index(root).page.read_bytes() == first


def test_a_page_of_the_users_own_is_never_replaced(root):
    (root / "index.html").write_text("<h1>Mine</h1>")
    with pytest.raises(EstbenchError, match="move it away"):
        build_index(root)
    assert read(root / "index.html") == "<h1>Mine</h1>"


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_list_is_an_error(tmp_path, there):
    folder = tmp_path / "empty"
    if there:
        (folder / ".git").mkdir(parents=True)
    with pytest.raises(EstbenchError, match="no report below" if there else "no folder"):
        build_index(folder)
    assert not (folder / "index.html").exists()
