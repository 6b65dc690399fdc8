"""The page: whole, self-contained, escaped, the same twice, and never broken by what is missing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib import resources

import pandas as pd
import pytest
from records import ENVIRONMENT, ESTIMATORS, analyse, drawn_alone, write_results

from estbench.errors import EstbenchError
from estbench.experiment.spec import experiment_from
from estbench.references import BIBTEX
from estbench.report import build
from estbench.report.analysis import Analysis
from estbench.report.analysis.conclusions import Conclusion
from estbench.report.analysis.noise_shares import shares
from estbench.report.analysis.notices import status_line
from estbench.report.figures import FigureSource, all_figures, registry
from estbench.report.figures.noise_shares import draw_noise_shares
from estbench.report.figures.style import line_styles
from estbench.report.formats import FORMATS
from estbench.report.page.render import render as render_page
from estbench.report.page.render import spec_toml
from estbench.report.sections import Place
from estbench.report.tables import all_tables
from estbench.report.tables.base import Column, Entry, Table
from estbench.report.tables.completion import completion
from estbench.report.tables.registry import TABLES
from estbench.store import load

FIGURES = [
    "final_bounds",
    "elbo_steps",
    "elbo_evaluations",
    "elbo_seconds",
    "elbo_gap",
    "iwae_steps",
    "bound_parts",
    "pictures",
    "noise_shares",
    "gradient_variance",
    "gradient_snr",
    "variance_cost",
    "throughput",
    "pareto",
]
TWO = ["reparam", "reinforce"]
VOID = {"meta", "link", "input", "wbr", "br"}


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that what opens closes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


TABLE_FILES = ("csv", "md", "tex", "short.tex")
COMPARISONS = ("first_crossings", "time_to_target", "equal_cost", "pairwise")
OTHERS = ("bound_parts", "ranking", "completion", "summary", "cells", "gradient_variance", "throughput", "estimators")


def expected_files(figures, kinds):
    tables = {f"tables/{name}.{kind}" for name in (*OTHERS, *COMPARISONS) for kind in TABLE_FILES}
    drawn = {f"figures/{name}.{kind}" for name in figures for kind in kinds}
    return tables | drawn | {"report.html", "environment.json", "experiment.json"}


def test_all_files_are_written(folder):
    assert set(files(folder / "report")) == expected_files(FIGURES, ("svg", "csv"))
    assert (folder / "report" / "report.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("drawn", [["final_bounds", "pictures"], pytest.param(FIGURES, marks=pytest.mark.slow)])
def test_figures_are_written_in_all_formats(results, tmp_path, drawn):
    names = {f"draw_{name}" for name in drawn} if drawn is not FIGURES else set(registry.FIGURES)
    with drawn_alone(*names):
        build(results, FORMATS, out=tmp_path)
    assert set(files(tmp_path)) == expected_files(drawn, ("svg", "png", "pdf", "csv"))
    for name in drawn:
        figure = tmp_path / "figures" / name
        assert figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        content = figure.with_suffix(".pdf").read_bytes()
        assert content.startswith(b"%PDF")
        assert b"Date" not in content


def test_the_page_asks_nothing_of_anyone(page):
    reader = Reader(page)
    for _, attributes in reader.tags:
        for name in ("src", "xlink:href", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert page.count("url(") == page.count("url(#")
    assert "@import" not in page
    policy = next(meta["content"] for meta in reader.named("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy


def test_the_one_script_is_ours_and_the_only_one_allowed(page):
    assert len(Reader(page).named("script")) == 1
    script = page.partition("<script>")[2].partition("</script>")[0]
    assert script == resources.files("estbench.report.page").joinpath("report.js").read_text(encoding="utf-8")
    assert "</" not in script
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}';" in page


def test_the_page_is_semantic(page):
    reader = Reader(page)
    assert len(reader.named("caption")) == len(reader.named("table")) == 13
    assert {head.get("scope") for head in reader.named("th")} == {"row", "col"}
    images = [svg for svg in reader.named("svg") if svg.get("role") == "img"]
    assert len(images) == len(FIGURES)
    assert all(len(image["aria-label"]) > 50 for image in images)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["href"][1:] for attributes in reader.named("use")}
    assert used
    assert used <= set(ids)
    targets = {attributes["id"] for _, attributes in reader.tags if "id" in attributes}
    assert {link["href"][1:] for link in reader.named("a")} <= targets
    assert [tag for tag, _ in reader.tags if tag in {"h1", "h2"}].count("h1") == 1


def test_the_page_leads_with_what_is_missing(page):
    text = " ".join("".join(Reader(page).text).split())
    head, _, body = text.partition("Final test bounds")
    assert "21 of 24 runs done; 1 diverged, 1 failed, 1 missing." in head
    assert "reinforce seed 0 at step 800" in head
    assert "4 seeds: fewer than 5" in head
    assert "detached is a biased estimator" in head
    assert f"No passing certificate: {', '.join(f'{label} (none)' for label in ESTIMATORS)}." in head
    assert "stl and reparam end close together" in body


def test_the_sections_stand_in_order(page):
    sections = [attributes["id"] for attributes in Reader(page).named("section") if "id" in attributes]
    assert sections == [
        "answer",
        "convergence",
        "pictures",
        "variance",
        "throughput",
        "target",
        "pairwise",
        "completion",
        "certificates",
        "provenance",
        "reproduce",
        "cite",
    ]


@pytest.mark.usefixtures("one_figure")
def test_the_authors_texts_stand_with_the_answer(tmp_path):
    texts = {"answer": "stl <b>wins</b>.", "surprise": ["By a lot."], "limits": ["One dataset.", "One rate."]}
    path = write_results(tmp_path / "r", TWO, 1, replicates=0, rounds=0, **texts)
    page = build(path, ["html"]).read_text(encoding="utf-8")
    answer = page.partition('<section id="answer">')[2].partition("</section>")[0]
    places = [answer.index(text) for text in ("stl &lt;b&gt;wins&lt;/b&gt;.", "By a lot.", "One dataset.", "One rate.")]
    assert places == sorted(places)
    assert answer.index("What surprised") < places[1] < answer.index("What this does not show") < places[2]
    assert load(path).plan["experiment"]["limits"] == texts["limits"]


def test_an_experiment_without_such_texts_records_none(results):
    assert not {"answer", "surprise", "limits"} & results.plan["experiment"].keys()


@pytest.mark.slow
def test_what_others_add_has_its_place(analysis):
    def table(name, place):
        columns = (Column("estimator", numeric=False, head=True), Column("other", numeric=False))
        rows = ((Entry("stl"), Entry("reparam")), (Entry("none"), Entry("none")))
        return Table(name, f"Title of {name}", "Caption.", pd.DataFrame([{"a": 1}]), columns, rows, place=place)

    more = [table(name, TABLES[name].place) for name in ("time_to_target", "equal_cost", "pairwise")]
    place = Place("target", 10)
    profile = dataclasses.replace(all_figures(analysis)[0], name="profile", place=place, title="Title of profile")
    analysis = Analysis(analysis.results)
    words = {"kind": "bound", "problem": "vae", "shown": True}
    analysis.conclusions = [Conclusion("stl <wins>", **words), Conclusion("reparam loses", **words)]
    tables = all_tables(analysis)
    text = render_page(analysis, [*tables, *more], [profile])
    reader = Reader(text)
    sections = [attributes["id"] for attributes in reader.named("section") if "id" in attributes]
    assert sections[3:6] == ["throughput", "target", "pairwise"]
    places = [text.index(f"<caption>Title of {name}") for name in ("time_to_target", "equal_cost", "pairwise")]
    assert places == sorted(places)
    assert places[0] < text.index("<h3>Title of profile</h3>") < places[1]
    assert "<li>stl &lt;wins&gt;</li>" in text
    assert text.index("stl &lt;wins&gt;") < text.index("<caption>Final test bounds")
    without = Reader(render_page(analysis, tables, []))
    owners, others = ([row.get("data-estimators") for row in each.named("tr")] for each in (reader, without))
    assert owners.count("1 0") == others.count("1 0") + 3  # hidden with stl, and with reparam


def test_the_grid_says_how_every_cell_ended(analysis, page):
    table = completion(analysis)
    rows = {row[0].text: [str(entry) for entry in row[-4:]] for row in table.rows}
    assert list(rows) == [entrant.estimator for entrant in analysis.leaderboards[0].entrants]
    assert rows["reinforce"] == ["diverged at step 800", "done", "done", "done"]
    assert rows["stl"] == ["done", "done", "done", "missing"]
    assert rows["detached"] == ["done", "failed at step 0", "done", "done"]
    assert 'class="text is-diverged" data-value="diverged"' in page


def test_the_share_of_the_estimator_is_that_of_the_variances(analysis):
    frame = analysis.results.gradients
    frame = frame[(frame["step"] == 2000) & (frame["group"] == "encoder")]
    reparam = frame[frame["estimator"] == "reparam"]
    wide = reparam.pivot_table(index="seed", columns="statistic", values="value")
    expected = (wide["variance"] / (wide["variance"] + wide["data_variance"])).mean()
    share = shares(reparam)
    assert share.n == 4
    assert share.value == pytest.approx(expected)
    assert share.low < share.value < share.high
    assert shares(reparam[reparam["statistic"] != "data_variance"]).n == 0
    below_zero = reparam.assign(value=reparam["value"].where(reparam["statistic"] != "data_variance", -1.0))
    assert shares(below_zero).value == 1
    drawn = next(draw_noise_shares(FigureSource(analysis, line_styles(ESTIMATORS), "vae"))).data
    assert set(drawn["group"]) == {"encoder", "decoder"}
    encoder = drawn[drawn["group"] == "encoder"].set_index("estimator")["value"]
    assert encoder["reparam"] == pytest.approx(expected)
    assert list(encoder.index) == list(ESTIMATORS)


@pytest.mark.usefixtures("one_figure")
def test_environments_are_written_once_each(tmp_path):
    path = write_results(tmp_path / "r", TWO, 3, environments={1: {"machine": "other"}}, replicates=0, rounds=0)
    build(path, ["html"])
    written = json.loads((path / "report" / "environment.json").read_text(encoding="utf-8"))
    machines = {each["environment"]["machine"]: each["cells"] for each in written}
    assert {machine: len(cells) for machine, cells in machines.items()} == {ENVIRONMENT["machine"]: 4, "other": 2}
    assert all("-s1-" in cell for cell in machines["other"])


@pytest.mark.usefixtures("one_figure")
def test_a_report_by_itself_says_of_which_experiment_it_is(tmp_path):
    path = write_results(tmp_path / "r", TWO, 2, replicates=0, rounds=0)
    analysis = analyse(path)
    build(analysis, ["html"])
    written = json.loads((path / "report" / "experiment.json").read_text(encoding="utf-8"))
    assert experiment_from(written["experiment"]).estimators == tuple(TWO)
    assert written["cells"] == dict(zip(analysis.cells.folder, analysis.cells.key, strict=True))


@pytest.mark.usefixtures("one_figure")
def test_the_papers_are_cited(tmp_path, page):
    assert html.escape(BIBTEX["kingma2014"], quote=False) in html.unescape(page)
    path = write_results(tmp_path / "r", TWO, 1, replicates=0, rounds=0)
    for record in path.glob("cells/reinforce-*/cell.json"):
        told = json.loads(record.read_text(encoding="utf-8"))
        told["facts"]["reference"] = "mine<b>2025"
        record.write_text(json.dumps(told), encoding="utf-8")
    text = build(path, ["html"]).read_text(encoding="utf-8")
    assert "No reference is known for: reinforce (mine&lt;b&gt;2025)." in text
    assert "@inproceedings{kingma2014" in text


ENTRY = "@misc{mine2026,\n  title = {A <script>alert(1)</script> & B},\n  note = {\u202e}\n}"


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("bibtex", "cited"),
    [
        (ENTRY, True),
        (ENTRY[:-1], False),
        (ENTRY.replace("mine2026", "kingma2014"), False),
        (ENTRY.replace("alert(1)", "x" * 5000), False),
        (["@misc{mine2026, x = 1}"], False),
    ],
    ids=["entry", "damaged", "key of another", "too long", "no text"],
)
@pytest.mark.usefixtures("one_figure")
def test_an_estimators_own_entry_is_cited_from_its_record(tmp_path, bibtex, cited):
    path = write_results(tmp_path / "r", TWO, 1, replicates=0, rounds=0)
    for record in path.glob("cells/reinforce-*/cell.json"):
        written = json.loads(record.read_text(encoding="utf-8"))
        written["facts"] |= {"reference": "mine2026", "bibtex": bibtex}
        record.write_text(json.dumps(written), encoding="utf-8")
    text = build(path, ["html"]).read_text(encoding="utf-8")
    assert ("title = {A &lt;script&gt;alert(1)&lt;/script&gt; &amp; B}" in text) == cited
    assert r"note = {\u202e}" in text or not cited
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert html.escape(BIBTEX["kingma2014"], quote=False) in html.unescape(text)


def test_notices_name_what_is_mixed(tmp_path):
    environments = {1: {"machine": "other", "torch": "2.12.0", "uncommitted": True}}
    analysis = analyse(write_results(tmp_path / "r", TWO, 5, environments=environments, replicates=0, rounds=0))
    told = " ".join(analysis.notices)
    assert "2 runs used uncommitted code" in told
    assert "different versions of torch: 2.12.0, 2.13.0" in told
    assert "timed in 2 places" in told
    assert "fewer than" not in told


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(tmp_path):
    first, second = (write_results(tmp_path / name / "r", TWO, 3) for name in ("a", "b"))
    build(first)
    build(second)
    assert files(first / "report") == files(second / "report")


def test_what_a_new_report_lacks_is_removed(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1, replicates=0)
    with drawn_alone("draw_final_bounds", "draw_throughput"):
        build(path, ["csv", "svg"])
        assert (path / "report" / "figures" / "throughput.svg").is_file()
        (path / "report" / "tables" / "notes.txt").write_text("mine", encoding="utf-8")
        (path / "throughput.parquet").unlink()
        build(path, ["csv", "svg"])
    left = set(files(path / "report"))
    assert not [name for name in left if "throughput" in name]
    assert "tables/notes.txt" in left


EVIL = '<script>alert("x")</script>'
LABELS = {
    "reparam": "<b>a&b</b>",
    "stl": r"x|y $z_1$ 50% #{~^}\ <img src=x onerror=y>",
    "reinforce": "_`*[l](javascript:z) \u4e2d\u6587 \x07 </td>",
}


def test_every_string_of_a_record_is_escaped(tmp_path):
    path = write_results(
        tmp_path / "r",
        list(LABELS),
        3,
        labels=LABELS,
        question=EVIL,
        expect=EVIL,
        environments={seed: {"processor": EVIL, EVIL: EVIL} for seed in range(3)},
        statuses={("reinforce", 0): "diverged"},
        stops={("reinforce", 0): 400},
    )
    for record in path.glob("cells/*/cell.json"):
        told = json.loads(record.read_text(encoding="utf-8"))
        told["stop_reason"] = EVIL
        told["facts"]["summary"] = EVIL
        record.write_text(json.dumps(told), encoding="utf-8")
    reader = Reader(build(path, ["html", "md", "svg"]).read_text(encoding="utf-8"))
    assert len(reader.named("script")) == 1
    assert not reader.named("b")
    assert not reader.named("img")
    assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on")]
    text = "".join(reader.text)
    assert EVIL in text
    for label in LABELS.values():
        assert label in text
    for table in (path / "report" / "tables").glob("*.md"):
        assert "<" not in table.read_text(encoding="utf-8")
    for figure in (path / "report" / "figures").glob("*.svg"):
        assert b"<script" not in figure.read_bytes()


def every(status):
    return {(estimator, seed): status for estimator in TWO for seed in (0, 1)}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 0}, "Throughput was not measured."),
        ({"replicates": 0}, "No finished run was probed."),
        ({"estimators": ["reparam"], "seeds": 1}, "1 of 1 run done."),
        ({"statuses": every("diverged"), "stops": dict.fromkeys(every(""), 0)}, "4 runs diverged"),
        ({"statuses": every("diverged"), "stops": dict.fromkeys(every(""), 900)}, "0 of 4 runs done; 4 diverged."),
        ({"statuses": every("failed"), "stops": dict.fromkeys(every(""), 0)}, "No run is done yet"),
        ({"statuses": every(None), "rounds": 0}, "No run has recorded its environment."),
        ({"estimators": ["reinforce", "stl"], "replicates": 0, "rounds": 0}, "not in this experiment"),
        ({"rounds": 1, "replicates": 0}, "n = 1 round"),
    ],
)
def test_partial_records_make_a_report(tmp_path, changes, said):
    path = write_results(tmp_path / "r", **{"estimators": TWO, "seeds": 2, **changes})
    text = " ".join("".join(Reader(build(path, ["html"]).read_text(encoding="utf-8")).text).split())
    assert said in text


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (
            ["ValueError: no\nat line 3"] * 2,
            "reinforce seed 1. Reason: ValueError: no. Not in any mean.",
        ),
        (["KeyError: a", "KeyError: b"], "Reason: KeyError: a; KeyError: b. Not in any mean."),
        (["x" * 500, ""], f"Reason: {'x' * 157}.... Not in any mean."),
        (["", ""], "reinforce seed 1. Not in any mean."),
    ],
)
def test_failed_runs_are_named_with_their_reasons(tmp_path, reasons, said):
    failed = {("reinforce", seed): "failed" for seed in (0, 1)}
    path = write_results(tmp_path / "r", TWO, 3, statuses=failed, stops=dict.fromkeys(failed, 0), rounds=0)
    left = iter(reasons)
    for record in sorted(path.glob("cells/*/cell.json")):
        told = json.loads(record.read_text(encoding="utf-8"))
        if told["status"] == "failed":
            told["stop_reason"] = next(left)
            record.write_text(json.dumps(told), encoding="utf-8")
    assert any(said in notice for notice in analyse(path).notices)


@pytest.mark.slow
def test_bare_records_make_a_report(tmp_path):
    path = write_results(tmp_path / "r", TWO, 1)
    for record in path.glob("cells/*/cell.json"):
        told = json.loads(record.read_text(encoding="utf-8"))
        record.write_text(json.dumps({"schema": told["schema"], "status": told["status"]}), encoding="utf-8")
    plan = json.loads((path / "experiment.json").read_text(encoding="utf-8"))
    plan["experiment"] = {}
    (path / "experiment.json").write_text(json.dumps(plan), encoding="utf-8")
    assert "2 of 2 runs done." in build(path, ["html"]).read_text(encoding="utf-8")


@pytest.mark.usefixtures("one_figure")
def test_a_plan_without_cells_makes_a_report(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1, rounds=0)
    plan = json.loads((path / "experiment.json").read_text(encoding="utf-8"))
    plan["cells"] = []
    (path / "experiment.json").write_text(json.dumps(plan), encoding="utf-8")
    assert status_line(analyse(path)) == "0 of 0 runs done."
    assert "The plan has no runs." in build(path, ["html"]).read_text(encoding="utf-8")


def test_the_spec_is_toml_that_runs_it_again(analysis, page):
    spec = tomllib.loads(spec_toml(analysis))
    recorded = analysis.results.plan["experiment"]
    assert spec["estimators"] == list(recorded["estimators"])
    assert spec["seeds"] == [0, 1, 2, 3]
    assert spec["probe"] == recorded["probe"]
    assert "estimator_learning_rate" not in spec["training"]
    assert "estbench run comparison.toml" in page


def test_strings_of_the_spec_survive_toml(tmp_path):
    question = 'a "quote", a \\ and\na line\x7f\x01 \u4e2d'
    analysis = analyse(write_results(tmp_path / "r", ["reparam"], 1, question=question, replicates=0, rounds=0))
    assert tomllib.loads(spec_toml(analysis))["question"] == question


def test_a_folder_without_records_is_an_error(tmp_path):
    with pytest.raises(EstbenchError, match="no results folder"):
        build(tmp_path)


def test_a_report_that_cannot_be_written_is_an_error(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1, replicates=0, rounds=0)
    (path / "report").write_text("in the way", encoding="utf-8")
    with pytest.raises(EstbenchError, match="cannot write the report"):
        build(path, ["md"])


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_it_is_needed_and_torch_never(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1, replicates=0)
    script = f"""
import sys, estbench.report
print([name for name in ("torch", "pandas", "matplotlib", "seaborn", "jinja2") if name in sys.modules])
estbench.report.build({str(path)!r})
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
