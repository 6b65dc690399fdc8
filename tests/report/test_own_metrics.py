"""Metrics in the report: a section with figures and a table, from the records only."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from records import analyse, drawn_alone, write_results
from scipy import stats

import estbench
from estbench import EstbenchError
from estbench.measure import METRICS, register_metric
from estbench.report import build
from estbench.report.analysis import Analysis
from estbench.report.analysis.own_metrics import find_metrics
from estbench.report.tables.own_metrics import own_metrics
from estbench.report.tensorboard import FILE, write_events

ESTIMATORS = ["reparam", "rloo"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Three seeds of two estimators with three metrics; nothing of these is registered when it is read."""
    known = dict(METRICS._entries)

    @register_metric("weights", label="largest weight", unit="1/pixel", splits=("train",))
    def weights(problem, estimator, x):
        return max(weight.abs().max() for weight in problem.parameters())

    @register_metric("errors", label="errors <b>", better="lower")
    def errors(problem, estimator, x):
        """Errors of pixels."""
        error = problem.decode(problem(x).q.sample()) - x
        return {"squared": error.square().mean(), "absolute": error.abs().mean()}

    experiment = {
        "estimators": ESTIMATORS,
        "problems": ["vae[dataset=digits,hidden=[8],latent_size=2]"],
        "seeds": 3,
        "training": {"steps": 30, "batch_size": 16},
        "evaluation": {"every": 10, "num_samples": 2, "examples": 20, "metrics": ["weights", "errors"]},
        "probe": {"replicates": 0},
        "throughput": {"rounds": 0},
    }
    results = estbench.run(experiment, out=tmp_path_factory.mktemp("metrics") / "r")
    METRICS._entries.clear()
    METRICS._entries.update(known)
    return results.path


@pytest.fixture(scope="module")
def report(path, tmp_path_factory):
    with drawn_alone("draw_metrics"):
        return build(path, ["html", "csv", "svg", "tex"], out=tmp_path_factory.mktemp("report")).parent


def test_the_records_say_what_the_metrics_are(path):
    found = {metric.name: metric for metric in find_metrics(analyse(path))}
    assert list(found) == ["errors/absolute", "errors/squared", "weights"]
    assert found["weights"].title == "largest weight (1/pixel)"
    assert found["weights"].splits == ("train",)
    assert found["errors/squared"].label == "errors <b>: squared"
    assert found["errors/squared"].splits == ("test", "validation", "train")
    assert (found["weights"].better, found["errors/squared"].better) == ("", "lower")


def test_the_page_has_a_section_of_metrics(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="metrics">')[2].partition("</section>")[0]
    assert '<a href="#metrics">' in page
    titles = re.findall(r"<h3>(.*?)</h3>", section)
    assert titles == ["errors &lt;b&gt;: absolute", "errors &lt;b&gt;: squared", "largest weight"]
    assert "<caption>Final values of metrics</caption>" in section
    assert "Lower is better." in section
    assert "Neither direction is better by itself." in section
    assert "<b>" not in section


def test_its_figures_are_files_with_their_data(path, report):
    axes = ("steps", "evaluations", "seconds")
    names = {f"metric_{axis}_{name}" for axis in axes for name in ("errors.squared", "errors.absolute", "weights")}
    assert {file.stem for file in (report / "figures").glob("metric_*.svg")} == names
    drawn = pd.read_csv(report / "figures" / "metric_steps_errors.squared.csv")
    means = drawn[(drawn["seed"] == "mean") & (drawn["split"] == "validation")]
    curves = estbench.load(path).curves
    curves = curves[(curves["metric"] == "errors/squared") & (curves["split"] == "validation")]
    for label in ESTIMATORS:
        expected = curves[curves["estimator"] == label].groupby("step")["value"].mean()
        assert means[means["estimator"] == label]["value"].tolist() == pytest.approx(expected.tolist())
    assert set(means["n"]) == {3}


def test_its_table_has_means_and_t_intervals_of_final_values(path, report):
    table = own_metrics(analyse(path))
    assert [column.title for column in table.columns] == [
        "estimator",
        "test errors <b>: absolute",
        "test errors <b>: squared",
        "train largest weight (1/pixel)",
    ]
    assert [column.best for column in table.columns] == ["", "low", "low", ""]
    written = pd.read_csv(report / "tables" / "own_metrics.csv").set_index("estimator")
    curves = estbench.load(path).curves
    for label in ESTIMATORS:
        for split in ("train", "validation", "test"):
            rows = curves[(curves["metric"] == "errors/squared") & (curves["split"] == split) & (curves["step"] == 30)]
            values = rows[rows["estimator"] == label]["value"]
            low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
            name = f"errors/squared.{split}"
            found = written.loc[label, [name, f"{name}_low", f"{name}_high", f"{name}_n"]]
            assert found.tolist() == pytest.approx([values.mean(), low, high, 3])
    assert (report / "tables" / "own_metrics.short.tex").is_file()


def test_a_metric_that_was_left_out_has_no_final_value(path):
    results = estbench.load(path)
    gone = (results.curves["metric"] == "weights") & (results.curves["step"] == 30)
    gone &= results.curves["estimator"] == "rloo"
    vars(results)["curves"] = results.curves[~gone]  # where they are kept
    rows = own_metrics(Analysis(results)).data.set_index("estimator")
    assert rows["weights.train_n"].to_dict() == {"reparam": 3, "rloo": 0}


@pytest.mark.usefixtures("one_figure")
def test_without_metrics_there_is_no_section(tmp_path):
    folder = write_results(tmp_path / "r", ["reparam"], 1, replicates=0, rounds=0)
    page = build(folder, ["html"]).read_text(encoding="utf-8")
    assert 'id="metrics"' not in page
    assert "#metrics" not in page


@pytest.mark.parametrize("facts", ["x", 3, [], {"weights": None}, {"weights": {"label": 3, "better": "up"}}])
def test_records_may_say_anything_about_their_metrics(path, tmp_path, facts):
    for file in path.glob("cells/*/cell.json"):
        copied = tmp_path / "r" / "cells" / file.parent.name
        copied.mkdir(parents=True)
        for other in file.parent.iterdir():
            (copied / other.name).write_bytes(other.read_bytes())
        record = json.loads(file.read_text(encoding="utf-8"))
        (copied / "cell.json").write_text(json.dumps({**record, "metrics": facts}), encoding="utf-8")
    (tmp_path / "r" / "experiment.json").write_bytes((path / "experiment.json").read_bytes())
    found = find_metrics(analyse(tmp_path / "r"))
    assert [metric.better for metric in found] == ([""] if isinstance(facts, dict) else [])


@pytest.mark.slow
def test_a_metric_is_a_plot(path):
    plots = estbench.load(path).plot
    assert plots.metrics("weights").axes[0].get_ylabel() == "largest weight (1/pixel)"
    assert plots.metrics("seconds_errors.squared").axes[0].get_xlabel() == "seconds of training"
    with pytest.raises(EstbenchError, match="has no figure 'wights'"):
        plots.metrics("wights")


def test_event_files_have_the_metrics(path, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = estbench.load(path)
    folder = write_events(results, tmp_path / "tb")
    cell = results.plan["cells"][0]["folder"]
    assert (folder / cell / FILE).is_file()
    tags = set(EventAccumulator(str(folder / cell), {"scalars": 0}).Reload().Tags()["scalars"])
    assert {"train/weights", "test/errors/squared", "validation/errors/absolute"} <= tags
    assert "test/weights" not in tags
