"""Throughput at several sizes and in several modes: the table and the figure, against the rounds themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from records import COMPILED, FIXED, analyse, write_results

from estbench.report.analysis import Analysis
from estbench.report.figures import FigureSource
from estbench.report.figures.style import line_styles
from estbench.report.figures.throughput_by_size import draw_throughput_by_size
from estbench.report.tables import all_tables, throughput
from estbench.report.tables.throughput_by_size import throughput_by_size
from estbench.store import load_many
from estbench.store.tables import THROUGHPUT, read_rows, write_table

LABELS = ["reparam", "stl"]
PROTOCOL = {"rounds": 6, "batch_sizes": [1000], "modes": ["eager", "compiled"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("sized") / "r", LABELS, 2, throughput=PROTOCOL)


@pytest.fixture(scope="module")
def table(folder):
    return throughput_by_size(analyse(folder))


def row(table, estimator, size, mode):
    found = table.data.query("estimator == @estimator and batch_size == @size and mode == @mode")
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("later", ["a", "b"])  # in records, the later session stands first or last
def test_of_several_machines_the_one_that_timed_last_is_shown(tmp_path, later):
    for name in "ab":
        folder = write_results(tmp_path / name, LABELS, 1, throughput=PROTOCOL, replicates=0)
        frame = pd.read_parquet(folder / "throughput.parquet")
        frame["machine"] = f"m-{name}"
        frame["session"] = f"2026-01-0{1 + (name == later)}T00:00:00"
        frame.to_parquet(folder / "throughput.parquet")
    shown = Analysis(load_many([tmp_path / "a", tmp_path / "b"])).timings_by_size
    assert set(shown["machine"]) == {f"m-{later}"}
    assert len(shown) == 6 * len(LABELS) * 4


def entries(table):
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, line, strict=True)) for line in table.rows]


def test_each_size_and_mode_has_a_row_with_its_own_rounds(folder, table):
    frame = pd.read_parquet(folder / "throughput.parquet")
    assert len(table.data) == 8
    for (label, size, mode), rounds in frame.groupby(["estimator", "batch_size", "mode"]):
        found = row(table, label, size, mode)
        rates = np.log(size * 20 / rounds["seconds"])
        assert found["examples_per_second"] == pytest.approx(np.exp(rates.mean()))
        assert found["examples_per_second_n"] == 6
        assert found["fixed_share"] == pytest.approx(FIXED / (FIXED + (1 - FIXED) * size / 100))


def test_ratios_are_paired_with_the_reference_of_the_mode_and_with_the_eager_step(folder, table):
    frame = pd.read_parquet(folder / "throughput.parquet")
    seconds = frame.pivot_table(index="round", columns=["estimator", "batch_size", "mode"], values="seconds")
    for size in (100, 1000):
        logs = np.log(seconds["stl", size, "compiled"] / seconds["reparam", size, "compiled"])
        assert row(table, "stl", size, "compiled")["seconds_ratio"] == pytest.approx(np.exp(logs.mean()))
        assert row(table, "stl", size, "compiled")["eager_ratio"] == pytest.approx(COMPILED)
        assert row(table, "stl", size, "eager")["eager_ratio_n"] == 0
        assert row(table, "reparam", size, "compiled")["seconds_ratio_n"] == 0


def test_what_people_read(table):
    lines = entries(table)
    assert {str(line["relative time"]) for line in lines if str(line["estimator"]) == "reparam"} == {"reference"}
    assert {line["graph"].text for line in lines if str(line["mode"]) == "compiled"} == {"one"}
    assert {line["compile, seconds"].text for line in lines} == {"7.00", "\N{EN DASH}"}
    assert {line["knee, examples"].text for line in lines} == {"300"}


def test_the_main_table_and_the_costs_are_those_of_eager_steps_at_the_size_of_the_training(folder):
    analysis = analyse(folder)
    one = throughput(analysis)
    assert len(one.data) == len(LABELS)
    assert set(one.data["batch_size"]) == {100}
    assert set(one.data["rounds"]) == {6}


def test_a_step_that_torch_cannot_compile_is_named_with_the_reason(folder, tmp_path):
    path = write_results(tmp_path / "r", LABELS, 1, throughput=PROTOCOL)
    rows = read_rows(path / "throughput.parquet", THROUGHPUT)
    broken = [each for each in rows if (each["estimator"], each["mode"]) != ("stl", "compiled")]
    gone = next(each for each in rows if (each["estimator"], each["mode"]) == ("stl", "compiled"))
    broken.append({**gone, "round": None, "seconds": None, "graph_breaks": "not compiled: no double backward"})
    write_table(path / "throughput.parquet", broken, THROUGHPUT)
    lines = [line for line in entries(throughput_by_size(analyse(path))) if str(line["estimator"]) == "stl"]
    (failed,) = [line for line in lines if line["graph"].note]
    assert (failed["graph"].text, failed["graph"].note) == ("none", "not compiled: no double backward")
    assert failed["examples per second"].text == failed["fixed part"].text == "\N{EN DASH}"


def test_reasons_to_break_the_graph_are_counted(tmp_path):
    path = write_results(tmp_path / "r", LABELS, 1, throughput=PROTOCOL)
    rows = read_rows(path / "throughput.parquet", THROUGHPUT)
    for each in rows:
        if each["mode"] == "compiled":
            each["graph_breaks"] = "a call of print; a change of requires_grad"
    write_table(path / "throughput.parquet", rows, THROUGHPUT)
    found = {
        str(line["graph"]) for line in entries(throughput_by_size(analyse(path))) if str(line["mode"]) == "compiled"
    }
    assert found == {"2 reasons to break a call of print; a change of requires_grad"}


def test_one_size_in_one_mode_has_no_table_and_no_figure(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", LABELS, 1))
    assert "throughput_by_size" not in [table.name for table in all_tables(analysis)]
    assert not list(draw_throughput_by_size(FigureSource(analysis, line_styles(analysis.estimators), "vae")))


def test_the_figure_has_a_line_for_each_mode_and_says_where_the_knee_is(folder):
    analysis = analyse(folder)
    (figure,) = draw_throughput_by_size(FigureSource(analysis, line_styles(LABELS), "vae"))
    assert "reparam knee 300" in figure.alt
    assert "stl (compiled) knee 300" in figure.alt
    assert figure.reading.startswith("How to read it")
    frame = figure.files()["csv"].decode()
    assert frame.count("compiled") == frame.count("eager") == 4
    assert len(figure.files()["svg"]) < 400_000


def test_tables_of_before_are_of_eager_steps(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1)
    file = path / "throughput.parquet"
    old = pd.read_parquet(file).drop(columns=["mode", "compile_seconds", "graph_breaks"])
    old.to_parquet(file, index=False)
    results = analyse(path).results
    assert set(results.throughput["mode"]) == {"eager"}
    assert set(results.throughput["graph_breaks"]) == {""}
    assert results.throughput["compile_seconds"].isna().all()
    assert len(throughput(analyse(path)).data) == 1
