"""Sweeps in a report: sensitivity, a choice on the validation split, and a comparison on the test split."""

from __future__ import annotations

import dataclasses
import tomllib

import pandas as pd
import pyarrow as pa
import pytest
from records import analyse, codes, write_results

from estbench.experiment.spec import experiment_from
from estbench.report import build
from estbench.report.analysis.selection import select
from estbench.report.figures import FigureSource
from estbench.report.figures.style import line_styles
from estbench.report.figures.sweep import draw_sensitivity
from estbench.report.page.render import setup, spec_toml
from estbench.report.tables import summary
from estbench.report.tables.sweep import sensitivity
from estbench.report.tables.throughput import throughput
from estbench.report.tensorboard import write_events
from estbench.store import Results, load
from estbench.store.tables import CURVES, THROUGHPUT, read_rows, write_table

RATES = [1e-4, 1e-3, 1e-2]
LIGHT = {"replicates": 0, "rounds": 0}


def swept(path, sweep=None, estimators=("reparam", "stl"), seeds=3, **more):
    return write_results(path, list(estimators), seeds, sweep=sweep or {"learning_rate": RATES}, **LIGHT, **more)


def shift(path, label, rate, split, by):
    """Raise one estimator's bounds on a split at one learning rate."""
    for cell in load(path).plan["cells"]:
        if cell["estimator"]["label"] == label and cell["training"]["learning_rate"] == rate:
            file = path / "cells" / cell["folder"] / "curves.parquet"
            rows = read_rows(file, CURVES)
            write_table(file, [{**row, "value": row["value"] + by * (row["split"] == split)} for row in rows], CURVES)


def chosen(analysis):
    return {(trial.problem, trial.estimator): dict(trial.setting) for trial in analysis.selection.picked}


def test_the_timing_shown_is_of_the_batch_size_that_was_picked(tmp_path):
    """Both sizes were timed, the larger one last: each estimator's speed is that of its own, and so is its cost."""
    path = swept(tmp_path / "r", {"batch_size": [50, 100]})
    for label, size in (("reparam", 50), ("stl", 100)):
        for cell in load(path).plan["cells"]:
            if cell["estimator"]["label"] == label and cell["training"]["batch_size"] == size:
                file = path / "cells" / cell["folder"] / "curves.parquet"
                rows = read_rows(file, CURVES)
                better = [{**row, "value": row["value"] + 50.0 * (row["split"] == "validation")} for row in rows]
                write_table(file, better, CURVES)
    known = codes(path)
    rows = [
        {
            **{name: "" for name in THROUGHPUT.names if THROUGHPUT.field(name).type == pa.string()},
            "mode": "eager",
            "session": f"2026-01-0{size // 50}",
            "machine": "m",
            "problem": "vae",
            "reference": "reparam",
            "estimator": label,
            "code": known["vae", label],
            "batch_size": size,
            "steps": 10,
            "round": each,
            "threads": 1,
            "seconds": size * slower * (1 + each / 1e3),
            "evaluations_per_example": 1,
            "peak_memory_bytes": 1,
        }
        for size in (50, 100)
        for label, slower in (("reparam", 1.0), ("stl", 2.0))
        for each in range(3)
    ]
    write_table(path / "throughput.parquet", rows, THROUGHPUT)
    analysis = analyse(path)
    table = throughput(analysis).data.set_index("estimator")
    assert table["batch_size"].to_dict() == {"reparam": 50, "stl": 100}
    assert table.loc["stl", "seconds_ratio"] == pytest.approx(2.0)  # paired at its own batch size
    _, milliseconds = analysis.costs("vae")
    assert milliseconds["stl"] == pytest.approx(4 * milliseconds["reparam"])


def test_the_validation_split_chooses_and_the_test_split_compares(tmp_path):
    path = swept(tmp_path / "r")
    shift(path, "stl", 1e-2, "validation", 50.0)
    shift(path, "reparam", 1e-4, "test", 50.0)
    analysis = analyse(path)
    assert chosen(analysis) == {
        ("vae", "reparam"): {"learning_rate": 1e-3},
        ("vae", "stl"): {"learning_rate": 1e-2},
    }
    table = summary(analysis).data.set_index("estimator")
    trials = {(trial.estimator, dict(trial.setting)["learning_rate"]): trial for trial in analysis.selection.trials}
    for label, rate in {"reparam": 1e-3, "stl": 1e-2}.items():
        expected = pd.Series(trials[label, rate].test).mean()
        assert table.loc[label, "test_elbo"] == expected
        assert table.loc[label, "done"] == table.loc[label, "planned"] == 3
    assert len(analysis.cells) == 6
    assert len(analysis.whole.cells) == 18


def test_a_setting_that_finished_fewer_seeds_is_not_chosen(tmp_path):
    path = swept(tmp_path / "r")
    shift(path, "stl", 1e-2, "validation", 50.0)
    (first, *_) = [
        cell
        for cell in load(path).plan["cells"]
        if cell["estimator"]["label"] == "stl" and cell["training"]["learning_rate"] == 1e-2
    ]
    record = path / "cells" / first["folder"] / "cell.json"
    record.write_text(record.read_text().replace('"status": "done"', '"status": "diverged"'))
    assert chosen(analyse(path))["vae", "stl"] == {"learning_rate": 1e-3}
    text = sensitivity(analyse(path)).data.set_index(["estimator", "learning_rate"])
    assert text.loc[("stl", 1e-2), "done"] == 2
    assert not text.loc[("stl", 1e-2), "picked"]


def test_an_estimator_that_never_finishes_stays_in_the_report(tmp_path):
    lost = {("stl", seed): "failed" for seed in range(3)}
    analysis = analyse(swept(tmp_path / "r", statuses=lost))
    table = summary(analysis).data.set_index("estimator")
    assert table.loc["stl", "planned"] == 3
    assert table.loc["stl", "done"] == 0


def test_options_of_estimators_are_tuned_and_those_of_problems_are_not(tmp_path):
    def written(name, values):
        return [f"{name}[x={value}]" for value in values]

    path = write_results(
        tmp_path / "r",
        written("reinforce", (1, 2)),
        2,
        problems=written("vae", (5, 10)),
        sweep={"learning_rate": RATES},
        **LIGHT,
    )
    analysis = analyse(path)
    assert analysis.selection.tuned == ["learning_rate"]
    plan = {**analysis.results.plan, "experiment": {**analysis.results.plan["experiment"], "sweep": {"x": [1, 2]}}}
    both = Results(analysis.path, plan, analysis.results.records)
    assert select(both).tuned == ["x"]
    assert {trial.estimator for trial in select(both).trials} == {"reinforce"}


@pytest.mark.slow
def test_a_report_of_a_sweep_says_how_it_chose(tmp_path):
    path = swept(tmp_path / "r")
    page = build(path, ["html", "csv", "svg"]).read_text()
    assert "Swept: learning_rate. Each estimator is shown at the setting with the best mean validation ELBO" in page
    assert "the test split had no say in it. reparam: learning_rate=0.001; stl: learning_rate=0.001." in page
    assert "18 of 18 runs done." in page
    assert "at learning rate 0.0001, 0.001, 0.01 (swept)" in page
    assert 'id="sensitivity"' in page
    names = {file.name for file in (path / "report").glob("*/sensitivity*")}
    assert names >= {"sensitivity.csv", "sensitivity_learning_rate.svg", "sensitivity_learning_rate.csv"}
    assert len(pd.read_csv(path / "report" / "tables" / "sensitivity.csv")) == 6
    again = build(path, ["html", "csv", "svg"]).read_text()
    assert again == page


@pytest.mark.usefixtures("one_figure")
def test_a_report_without_a_sweep_has_none_of_it(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 3, **LIGHT)
    page = build(path, ["html", "csv"]).read_text()
    assert "Sensitivity" not in page
    assert "Swept" not in page
    analysis = analyse(path)
    assert analysis.results is analysis.whole.results
    assert list(draw_sensitivity(FigureSource(analysis, line_styles(["reparam"])))) == []


def test_the_experiment_of_a_sweep_runs_again(tmp_path):
    analysis = analyse(swept(tmp_path / "r"))
    spec = experiment_from(tomllib.loads(spec_toml(analysis)))
    assert spec.sweep == {"learning_rate": tuple(RATES)}
    assert spec.estimators == ("reparam", "stl")
    assert "2 estimators, 1 problem, 3 seeds" in setup(analysis)


def test_a_figure_shows_each_value_of_each_estimator(tmp_path):
    path = swept(tmp_path / "r", {"learning_rate": RATES, "batch_size": [50, 100]})
    shift(path, "stl", 1e-2, "validation", 50.0)
    analysis = analyse(path)
    rate, size = draw_sensitivity(FigureSource(analysis, line_styles(["reparam", "stl"])))
    assert rate.title == "Sensitivity to learning_rate"
    assert size.title == "Sensitivity to batch_size"
    frame = rate.data.set_index(["estimator", "learning_rate"])
    assert len(frame) == 6
    assert frame["picked"].groupby("estimator").sum().tolist() == [1, 1]
    assert frame.loc[("stl", 1e-2), "picked"]
    assert len(size.data) == 4
    assert "each point is at its estimator's best in the others" in rate.caption
    assert len(rate.series) == 2


def test_event_files_keep_the_cells_of_a_sweep_apart(tmp_path):
    pytest.importorskip("tensorboard")
    path = swept(tmp_path / "r", seeds=1)
    shift(path, "stl", 1e-2, "test", 1.0)
    shift(path, "reparam", 1e-2, "test", 1.0)
    folder = write_events(load(path), tmp_path / "events")
    contents = [file.read_bytes() for file in sorted(folder.glob("*/*"))]
    assert len(contents) == len(set(contents)) == 6
    results = load(path)
    one = dataclasses.replace(results, plan={**results.plan, "cells": results.plan["cells"][:1]})
    alone = write_events(one, tmp_path / "alone")
    (file,) = alone.glob("*/*")
    assert file.read_bytes() == (folder / file.parent.name / file.name).read_bytes()
