"""The site: what stands on it comes from records or tables, and no folder or archive of a stranger can break it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest
import records
from records import analyse, drawn_alone, write_results

from estbench import EstbenchError
from estbench.guarded import GuardedPath
from estbench.report import build
from estbench.report.site import build_site, finding, making
from estbench.report.site.equal import EqualRank, from_rankings
from estbench.report.site.matrix import build_matrix
from estbench.report.site.profile import draw_profile, find_profile, list_shares
from estbench.stats import Interval
from estbench.store.pack import pack

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


def make(root, **options):
    """The site of a folder, beside it, without figures unless they are asked for."""
    return build_site([root], root.with_name("site"), **{"figures": False, **options})


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
    site = make(recorded)
    entries = {entry.places[0]: entry for entry in site.entries}
    assert list(entries) == ["ends", "group/twice", "one"]
    assert [entry.page for entry in entries.values()] == [
        "experiments/ends/report.html",
        "experiments/group-twice/report.html",
        "experiments/one/report.html",
    ]
    assert all((site.page.parent / entry.page).is_file() for entry in entries.values())
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
    for entry in make(root).entries:
        report = read(root / entry.places[0] / "report" / "report.html")
        for answer in entry.answers:
            assert f'<p class="answer">{answer}</p>' in report


def test_a_report_alone_says_the_same_as_its_records(recorded):
    """But for its page, and where it came from."""

    def shown(site):
        return [entry._replace(contents=None, page="") for entry in site.entries]

    from_records = make(recorded)
    tables = [entry.contents for entry in from_records.entries]
    for folder in (recorded / "ends", recorded / "group" / "twice", recorded / "one"):
        forget_records(folder)
    again = make(recorded)
    assert [entry.page for entry in again.entries] == ["", "", ""]
    for one, two in zip(shown(from_records), shown(again), strict=True):
        assert one._replace(boards=[]) == two._replace(boards=[])
    for one, two in zip(tables, [entry.contents for entry in again.entries], strict=True):
        assert one.cards == two.cards
        assert one.summaries == two.summaries
        assert one.certificates == two.certificates
        assert one.equal.keys() == two.equal.keys()
        for problem, equal in one.equal.items():
            for currency, ranks in equal.items():
                known = two.equal[problem][currency]
                assert known.keys() == ranks.keys()
                for label, rank in ranks.items():
                    assert known[label]._replace(gap=0) == rank._replace(gap=0)
                    assert known[label].gap == pytest.approx(rank.gap, abs=1e-9)


def test_the_matrix_holds_every_rank_and_gap(root):
    matrix = build_matrix(make(root).entries, "")
    assert [len(group.columns) for group in matrix.groups] == [1, 2, 1]
    assert matrix.estimators[:2] == ["reparam", "stl"]  # those in the most columns first
    assert matrix.biased == {"detached"}
    for group in matrix.groups:
        for column in group.columns:
            for label, square in column.squares.items():
                row = rankings(root / group.entry.places[0])[column.problem, label]
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
    ends = build_matrix(make(root).entries, "").groups[0].columns[0].squares
    assert ends["reinforce"].notes == ["\N{DOWNWARDS ARROW} collapsed 3 of 3"]
    assert ends["stl"].notes[-1] == "\N{MULTIPLICATION SIGN} diverged 1 of 3"
    assert ends["reparam"].kind in {"best", "decided", "behind"}


def test_only_a_shown_difference_has_a_star(root):
    entries = make(root).entries
    for entry in entries:
        for board in entry.boards:
            unclear = [
                entrant._replace(gap=entrant.gap._replace(p=0.5)) if entrant.rank != 1 else entrant
                for entrant in board.entrants
            ]
            shown, hidden = (
                build_matrix([entry._replace(boards=[each])], "").columns[0].squares
                for each in (board, board._replace(entrants=unclear))
            )
            for entrant in board.contenders[1:]:
                assert shown[entrant.estimator].notes[0].endswith("*") is entrant.is_behind
                assert not hidden[entrant.estimator].notes[0].endswith("*")
            leader = board.contenders[0].estimator
            assert (shown[leader].kind == "decided") is (board.winner == leader)
            assert hidden[leader].kind == "best"


def test_a_wide_matrix_is_cut_and_says_so(root):
    entry = make(root).entries[-1]
    (board,) = entry.boards
    wide = entry._replace(boards=[board._replace(problem=f"p{at}") for at in range(150)])
    many = board._replace(
        entrants=[
            board.entrants[0]._replace(estimator=f"e{at}", bound=Interval(-1.0, -1.0, -1.0, 1)) for at in range(400)
        ]
    )
    assert (len(build_matrix([wide], "").columns), build_matrix([wide], "").left_out) == (100, 50)
    matrix = build_matrix([entry._replace(boards=[many])], "")
    assert (len(matrix.estimators), matrix.left_out) == (300, 100)


def test_pages_run_no_code_and_fetch_nothing(root):
    site = make(root)
    pages = [site.page, *site.page.parent.glob("estimators/*.html")]
    assert len(pages) > 4
    for page in pages:
        text = read(page)
        assert "<script" not in text
        assert "default-src 'none'" in text
        links = re.findall(r"""(?:src|href)=["']([^"']*)""", text)
        assert links
        for link in links:
            assert link.startswith(("#", "data:")) or (page.parent / link).resolve().is_file()


@pytest.mark.usefixtures("one_figure")
def test_strings_of_records_are_escaped(root):
    evil = root / "evil"
    write_results(evil, ["reparam", "stl"], 1, question=EVIL, answer=EVIL, labels={"reparam": EVIL}, **LIGHT)
    plan = json.loads(read(evil / "experiment.json"))
    plan["experiment"]["name"] = EVIL
    (evil / "experiment.json").write_text(json.dumps(plan), encoding="utf-8")
    build(evil, ["csv", "html"])
    for change in (lambda: None, lambda: forget_records(evil)):
        change()
        site = make(root)
        for page in [site.page, *site.page.parent.glob("estimators/*.html")]:
            assert "<script" not in read(page)
        assert "&lt;script&gt;" in read(site.page)
        (own,) = site.page.parent.glob("estimators/script-alert*.html")
        assert "&lt;script&gt;" in read(own)


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b & <c> %41", 'quote"d', "\u202edlrow"])
def test_a_strange_name_of_a_folder_is_only_a_name(root, name):
    (root / "one").rename(root / name)
    site = make(root)
    page = next(entry.page for entry in site.entries if entry.name == "alone")
    assert re.fullmatch(r"experiments/[a-z0-9-]+/report\.html", page)
    assert (site.page.parent / page).is_file()
    assert not {"<c>", "\u202e"} & set(re.findall(r"<c>|\u202e", read(site.page)))


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
    site = make(root)
    assert [entry.places for entry in site.entries] == [["ends"], ["group/twice"]]
    ((path, given),) = site.skipped
    assert path == "one"
    assert reason in given
    assert str(root) not in read(site.page)
    assert given.partition("'")[0] in read(site.page)


def test_what_lies_too_deep_is_named(root):
    (root / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    ((path, reason),) = make(root).skipped
    assert (path, "deep" in reason) == ("a/b/c/d/e", True)


def test_too_many_folders_are_refused(root, monkeypatch):
    monkeypatch.setattr(finding, "MOST_FOLDERS", 3)
    with pytest.raises(EstbenchError, match="more than 3 folders"):
        make(root)


def test_an_old_report_has_no_ranking(root):
    forget_records(root / "one")
    (root / "one" / "report" / "tables" / "ranking.csv").unlink()
    site = make(root)
    assert site.entries[-1].answers == []
    assert "No ranking is stored" in read(site.page)


def test_the_page_of_a_report_is_only_published_when_it_is_trusted(root):
    (root / "ends" / "report" / "report.html").write_text(f"<header>\n{EVIL}", encoding="utf-8")
    site = make(root)
    assert not (site.page.parent / "experiments" / "ends").exists()
    assert "There is no page of this experiment" in read(site.page)
    assert EVIL not in read(site.page)
    site = make(root, trust_pages=[root])
    assert EVIL in read(site.page.parent / "experiments" / "ends" / "report.html")
    assert "There is no page of this experiment" not in read(site.page)


@pytest.mark.parametrize(
    ("column", "said"), [("outcome_of_claim", ": 2 reproduced, 1 contradicted."), ("other", "put to the test.")]
)
def test_claims_are_counted_by_outcome(root, column, said):
    folder = root / "claims"
    folder.mkdir()
    (folder / "reproductions.html").write_text("a page")
    lines = [f"card,{column}", "a,reproduced", "a,reproduced", "b,contradicted", "c,reproduced"]
    (folder / "reproductions.csv").write_text("\n".join(lines))
    text = read(make(root).page)
    assert said in text


def test_commits_and_changes_are_named(root):
    environments = [
        {"environment": {"commit": "a" * 40, "uncommitted": True}, "cells": ["x"]},
        {"environment": {"commit": "b" * 40, "uncommitted": False}, "cells": [], "finished": "2031-02-03T04:05"},
        {"environment": {}, "cells": []},
    ]
    forget_records(root / "one")
    (root / "one" / "report" / "environment.json").write_text(json.dumps(environments), encoding="utf-8")
    entry = make(root).entries[-1]
    assert entry.commit == f"commits {'a' * 10}, {'b' * 10}, with changes that are not committed"
    assert entry.date == "2031-02-03"


def contents(site):
    """All files of a site, by their names."""
    folder = site.page.parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_records_give_the_same_bytes_however_they_are_made(root):
    first = contents(make(root))
    assert {"index.html", ".nojekyll", "site.json", "estimators/reparam.html"} <= first.keys()
    assert contents(make(root)) == first
    moved = root.rename(root.with_name("moved"))
    assert contents(make(moved)) == first


@pytest.mark.slow
def test_processes_give_the_same_bytes(recorded):
    assert contents(make(recorded, jobs=2)) == contents(make(recorded))


def test_what_several_people_ran_is_one_experiment(tmp_path):
    write_results(tmp_path / "all" / "ann" / "x", ["reparam", "stl"], 2, **LIGHT)
    write_results(tmp_path / "bob", ["reparam", "rloo[num_samples=4]"], 2, **LIGHT)
    pack([tmp_path / "bob"], tmp_path / "all" / "bob.zip")
    write_results(tmp_path / "eve", ["reparam", "reinforce"], 2, statuses={("reparam", 0): "diverged"}, **LIGHT)
    pack([tmp_path / "eve"], tmp_path / "all" / "eve.zip")
    write_results(tmp_path / "all" / "other", ["reparam"], 2, training={"steps": 7}, **LIGHT)
    site = make(tmp_path / "all")
    first, other = site.entries
    assert first.places == ["ann/x", "bob.zip"]
    assert {entrant.estimator for entrant in first.boards[0].entrants} == {"reparam", "stl", "rloo[num_samples=4]"}
    assert first.contents.sources["vae", "rloo[num_samples=4]"] == ["bob.zip"]
    assert other.places == ["other"]
    ((path, reason),) = site.skipped
    assert path == "eve.zip"
    assert "different content" in reason
    page = read(site.page.parent / "estimators" / "rloo.html")
    assert "bob.zip" in page


def test_seconds_are_on_no_page_of_the_site(root):
    site = make(root)
    for page in [site.page, *site.page.parent.glob("estimators/*.html")]:
        assert not re.search(r"\d ?(s|ms|seconds)\b", read(page).partition("</style>")[2])


def test_a_site_is_replaced_as_a_whole_or_not_at_all(root, monkeypatch):
    folder = make(root).page.parent
    (folder / "estimators" / "old.html").write_text("of an estimator that is gone")
    before = contents(make(root))
    assert "estimators/old.html" not in before

    def broken(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("estbench.report.site.write_marker", broken)
    with pytest.raises(EstbenchError, match="No space left"):
        make(root)
    monkeypatch.undo()
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in root.parent.iterdir()) == ["results", "site"]


def test_a_site_that_was_being_replaced_comes_back(root):
    folder = make(root).page.parent
    folder.rename(folder.with_name(".site.before"))  # killed between the two renames
    (root.with_name(".site.partial")).mkdir()
    assert read(make(root).page)
    assert sorted(path.name for path in root.parent.iterdir()) == ["results", "site"]


@pytest.mark.parametrize("what", ["a page", "a file", "another marker", "half a marker"])
def test_only_a_site_is_replaced(root, what):
    out = root.with_name("site")
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        name = "index.html" if what == "a page" else "site.json"
        (out / name).write_text({"another marker": '{"generator": "mine"}', "half a marker": "{"}.get(what, "mine"))
    kept = {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()}
    with pytest.raises(EstbenchError, match="move it away"):
        make(root)
    assert {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()} == kept


def test_a_site_is_no_results(root):
    inside = build_site([root], root / "site", figures=False)
    again = build_site([root], root / "site", figures=False)
    assert [entry.places for entry in again.entries] == [entry.places for entry in inside.entries]
    assert again.skipped == []


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_list_is_an_error(tmp_path, there):
    folder = tmp_path / "empty"
    if there:
        (folder / ".git").mkdir(parents=True)
    with pytest.raises(EstbenchError, match="no results in" if there else "no folder or archive"):
        make(folder)
    assert not (tmp_path / "site").exists()


def test_the_profile_counts_problems():
    def entry(*gaps):
        ranks = {label: EqualRank(1, len(gaps), gap, is_behind=False) for label, gap in zip("abc", gaps, strict=False)}
        board = SimpleNamespace(problem="p", entrants=[SimpleNamespace(estimator=label) for label in "abcd"])
        equal = {"p": {"step": ranks, "evaluations": ranks}}
        return SimpleNamespace(boards=[board], contents=SimpleNamespace(equal=equal))

    profile = find_profile([entry(0.0, 0.5, 7.0), entry(2.0, 0.0)])
    rows = {row.estimator: row for row in list_shares(profile)}
    assert {label: row.problems for label, row in rows.items()} == {"a": 2, "b": 2, "c": 2, "d": 2}
    assert rows["a"].shares["step"] == ["50 %", "50 %", "100 %"]
    assert rows["b"].shares["evaluations"] == ["50 %", "100 %", "100 %"]
    assert rows["c"].shares["step"] == ["0 %", "0 %", "0 %"]  # 7 nats behind; and without a rank
    assert rows["d"].shares["step"] == ["0 %", "0 %", "0 %"]
    assert draw_profile(find_profile([entry(0.0, 0.5)])) is None  # one problem makes no profile


def test_ranks_are_those_of_the_analysis(made):
    analysis = analyse(made / "group" / "twice")
    for problem, rankings in analysis.rankings.items():
        ranks = from_rankings(rankings)
        assert set(ranks) == {"step", "evaluations"}
        for ranking in rankings:
            if ranking.currency in ranks:
                by_rank = sorted(ranks[ranking.currency], key=lambda label: ranks[ranking.currency][label].rank)
                assert by_rank == list(ranking.spans), problem
                assert ranks[ranking.currency][ranking.leader].gap == 0


def test_a_new_group_needs_the_same_name_and_protocol(made):
    groups, skipped = making.group_by_experiment([GuardedPath(made / "ends"), GuardedPath(made / "one")])
    assert (len(groups), skipped) == (2, [])
