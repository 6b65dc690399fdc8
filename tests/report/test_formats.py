"""A choice of formats, another place, and one report of several folders."""

from __future__ import annotations

import pytest
from records import behaviour, codes, drawn_alone, throughput_rows, write_results

from estbench.errors import EstbenchError
from estbench.experiment.spec import experiment_from
from estbench.report import build
from estbench.report.analysis import Analysis
from estbench.report.formats import FORMATS, as_formats, chosen
from estbench.report.tables import throughput
from estbench.store import ResultsFolder, load, load_many


def endings(folder):
    return {file.suffix.removeprefix(".") for file in folder.rglob("*") if file.is_file()}


def test_all_formats_but_pdf_by_default():
    assert as_formats(None) == set(FORMATS) - {"pdf"}
    assert as_formats([" CSV", "tex "]) == {"csv", "tex"}
    assert chosen({"a.csv": b"", "b.svg": b""}, ["svg"]) == {"b.svg": b""}


@pytest.mark.parametrize(("names", "said"), [(["htm"], "did you mean 'html'"), ([], "no format"), ([" "], "no format")])
def test_an_unknown_format_is_named(names, said):
    with pytest.raises(EstbenchError, match=said):
        as_formats(names)


@pytest.mark.slow
def test_the_report_holds_what_was_chosen_alone(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 2, replicates=0)
    page = build(path)
    assert page.is_file()
    whole = {file.relative_to(path): file.read_bytes() for file in page.parent.rglob("*.csv")}
    assert build(path, ["csv", "svg"]) == path / "report"
    assert endings(path / "report") == {"csv", "svg", "json"}
    assert {file.relative_to(path): file.read_bytes() for file in page.parent.rglob("*.csv")} == whole
    assert build(path, ["html"]) == page
    assert endings(path / "report") == {"html", "json"}


@pytest.mark.usefixtures("one_figure")
def test_elsewhere_nothing_is_removed(tmp_path):
    path, out = write_results(tmp_path / "r", ["reparam"], 1, replicates=0, rounds=0), tmp_path / "paper"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "mine.png").write_bytes(b"mine")
    assert build(path, ["html", "tex"], out=out) == out / "report.html"
    assert build(path, ["md"], out=out) == out
    assert endings(out) == {"html", "tex", "md", "png", "json"}
    assert not (path / "report").exists()


@pytest.mark.slow
def test_a_merged_report_has_the_cells_of_all(tmp_path):
    a = write_results(tmp_path / "a", ["reparam", "stl"], 3, replicates=5)
    b = write_results(tmp_path / "b", ["reparam", "detached"], 3, replicates=5)
    whole = write_results(tmp_path / "whole", ["reparam", "stl", "detached"], 3, replicates=5)
    out = tmp_path / "out"
    build(load_many([a, b]), out=out)
    build(whole)
    assert "9 of 9 runs done." in (out / "report.html").read_text(encoding="utf-8")
    for table in ("summary.csv", "gradient_variance.csv", "throughput.csv"):
        assert (out / "tables" / table).read_bytes() == (whole / "report" / "tables" / table).read_bytes()
    build(load_many([a, b]))
    first = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert {file.relative_to(a / "report") for file in (a / "report").rglob("*") if file.is_file()} == set(first)
    assert all((a / "report" / name).read_bytes() == content for name, content in first.items())


def test_machines_stand_beside_each_other_in_a_merged_report(tmp_path):
    a = write_results(tmp_path / "a", ["reparam", "stl"], 1, replicates=0)
    b = write_results(tmp_path / "b", ["reparam", "detached"], 1, replicates=0, rounds=0)
    spec = experiment_from(load(b).plan["experiment"] | {"throughput": {"rounds": 5}})
    known = {"reparam": behaviour("reparam")._replace(milliseconds=30.0), "detached": behaviour("detached")}
    ResultsFolder(b).append_throughput(throughput_rows(spec, known, codes(b), "2026-01-01T00:00:00", "m-2"))
    analysis = Analysis(load_many([a, b]))
    table = throughput(analysis)
    assert table.data[["machine", "estimator", "rounds"]].to_numpy().tolist() == [
        ["m-1", "stl", 8],  # in the order of the ranking
        ["m-1", "reparam", 8],
        ["m-2", "reparam", 5],
        ["m-2", "detached", 5],
    ]
    assert table.rules == {2}
    slow = table.data.set_index(["machine", "estimator"])["milliseconds_per_step"]
    assert slow["m-2", "reparam"] > 5 * slow["m-1", "reparam"]
    ratio = table.data.set_index("estimator")["seconds_ratio"]["detached"]
    assert ratio == pytest.approx(behaviour("detached").milliseconds / 30.0, rel=0.1)  # to the reference on m-2
    assert any("several machines (m-1, m-2)" in notice for notice in analysis.notices)
    with drawn_alone("draw_throughput"):
        build(analysis, ["html", "md"])


def test_a_report_is_not_written_through_a_link(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1, replicates=0, rounds=0)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine.csv").write_text("mine")
    (path / "report").mkdir()
    (path / "report" / "tables").symlink_to(victim)
    with pytest.raises(EstbenchError, match="tables' is a symbolic link, and results folders have none; remove it"):
        build(path, ["csv"])
    assert [file.name for file in victim.iterdir()] == ["mine.csv"]
