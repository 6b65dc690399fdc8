"""Metrics in a run: recorded at each evaluation, and whatever they do, the run is the same."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from estbench.measure import register_metric
from estbench.store import Status

pytestmark = pytest.mark.usefixtures("forgetful_registries")


def only_weights(problem, estimator, x):
    return sum(float(weight.sum()) for weight in problem.parameters())


def zeroes_weights(problem, estimator, x):
    for weight in [*problem.parameters(), *estimator.parameters()]:
        weight.data.zero_()
    return 0.0


def moves_buffers(problem, estimator, x):
    for buffer in [*problem.buffers(), *estimator.buffers()]:
        buffer.add_(1)
    return 0.0


def draws(problem, estimator, x):
    random.random()
    np.random.random(7)  # noqa: NPY002
    return torch.rand(100).sum()


def changes_modes(problem, estimator, x):
    problem.train()
    estimator.train()
    return estimator(problem(x)).mean()


def freezes(problem, estimator, x):
    problem.requires_grad_(requires_grad=False)
    return 0.0


def takes_a_step(problem, estimator, x):
    with torch.enable_grad():
        estimator(problem(x)).mean().backward()
    torch.optim.Adam(problem.parameters()).step()
    return 0.0


def changes_settings(problem, estimator, x):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    return 0.0


def overwrites(problem, estimator, x):
    x.fill_(0.5)
    return 0.0


def raises(problem, estimator, x):
    raise ValueError("no such thing")


def leaves(problem, estimator, x):
    raise SystemExit(3)


def returns_nothing(problem, estimator, x):
    return None


RUDE = [
    *(zeroes_weights, moves_buffers, draws, changes_modes, freezes, takes_a_step, changes_settings, overwrites),
    *(raises, leaves, returns_nothing),
]


@pytest.fixture(scope="module")
def undisturbed():
    """The bits of runs without metrics, by estimator."""
    return {}


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("estimator", ["reparam", "reinforce[baseline=nvil]"])
@pytest.mark.parametrize("metric", RUDE, ids=lambda metric: metric.__name__)
def test_no_metric_changes_a_run(train_cell, undisturbed, estimator, metric):
    if estimator not in undisturbed:
        undisturbed[estimator] = train_cell(estimator).bits
    register_metric("mine")(metric)
    trained = train_cell(estimator, name="with", evaluation__metrics=["mine"])
    assert trained.outcome.status is Status.DONE
    others = trained._replace(curves=trained.curves[trained.curves["metric"] != "mine"])
    assert others.bits == undisturbed[estimator]
    assert torch.get_default_dtype() is torch.float32


def test_a_metric_is_measured_at_each_evaluation_of_its_splits(train_cell):
    register_metric("weights", splits=("train",))(only_weights)
    register_metric("both")(lambda problem, estimator, x: {"rows": len(x), "mean": x.mean()})
    trained = train_cell(evaluation__metrics=["weights", "both"])
    curves = trained.curves
    assert curves.query("metric == 'weights'")["split"].unique().tolist() == ["train"]
    for split in ("train", "validation", "test"):
        assert curves.query(f"metric == 'both/rows' and split == '{split}'")["value"].tolist() == [20.0] * 4
    elbo = curves.query("metric == 'elbo' and split == 'train'").reset_index(drop=True)
    weights = curves.query("metric == 'weights'").reset_index(drop=True)
    columns = ["step", "examples", "evaluations", "seconds"]
    assert weights[columns].equals(elbo[columns])
    assert weights["value"].nunique() == len(weights)
    assert trained.record["remarks"] == []
    assert trained.record["metrics"]["weights"] == {
        "label": "weights",
        "unit": "",
        "better": None,
        "splits": ["train"],
        "summary": "",
    }


def test_draws_are_the_same_at_each_step_and_for_each_estimator_and_differ_by_split_and_seed(train_cell):
    register_metric("draw")(lambda problem, estimator, x: torch.rand(()))

    def drawn(*arguments, **changes):
        curves = train_cell(*arguments, evaluation__metrics=["draw"], **changes).curves
        return curves[curves["metric"] == "draw"].groupby("split")["value"].unique().map(list).to_dict()

    first = drawn()
    assert [len(values) for values in first.values()] == [1, 1, 1]
    assert len({values[0] for values in first.values()}) == 3
    assert first == drawn("rloo")
    assert first != drawn(seeds=[1])


@pytest.mark.parametrize("metric", [raises, leaves, returns_nothing], ids=lambda metric: metric.__name__)
def test_a_metric_that_fails_is_left_out_with_one_remark(train_cell, metric):
    calls = []

    @register_metric("mine")
    def at_step_20(problem, estimator, x):
        calls.append(len(x))
        return metric(problem, estimator, x) if len(calls) > 6 else 1.0

    trained = train_cell(evaluation__metrics=["mine", "reconstruction_error"])
    assert trained.outcome.status is Status.DONE
    (remark,) = trained.record["remarks"]
    assert (remark["step"], remark["measurement"]) == (20, "metric 'mine'")
    assert remark["message"].startswith("is left out from step 20 on: ")
    assert len(calls) == 7
    assert set(trained.curves.query("metric == 'mine'")["step"]) == {0, 10}
    assert set(trained.curves.query("metric == 'reconstruction_error'")["step"]) == {0, 10, 20, 30}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_missing(train_cell, value):
    calls = []

    @register_metric("mine", splits=("test",))
    def mine(problem, estimator, x):
        calls.append(len(x))
        return {"good": 1.0, "odd": value if len(calls) == 2 else 1.0}

    trained = train_cell(evaluation__metrics=["mine"])
    assert trained.outcome.status is Status.DONE
    recorded = trained.curves.query("metric == 'mine/odd'")["value"]
    assert recorded.isna().tolist() == [False, True, False, False]
    assert trained.curves.query("metric == 'mine/good'")["value"].notna().all()
    (remark,) = trained.record["remarks"]
    assert "is not finite on the test split; such values count as missing" in remark["message"]


def test_a_run_that_is_resumed_still_leaves_it_out(train_cell, stop_at):
    register_metric("mine")(raises)
    register_metric("draw")(draws)
    metrics = {"evaluation__metrics": ["mine", "draw"]}
    whole = train_cell(name="whole", **metrics)
    train_cell(name="parts", options={"interrupted": stop_at(15)}, **metrics)
    resumed = train_cell(name="parts", **metrics)
    assert resumed.bits == whole.bits
    assert resumed.record["remarks"] == whole.record["remarks"]


def test_what_a_metric_changes_of_the_process_is_named(train_cell):
    register_metric("mine")(changes_settings)
    messages = [remark["message"] for remark in train_cell(evaluation__metrics=["mine"]).record["remarks"]]
    assert len(messages) == len(set(messages)) >= 1
    assert any("which was put back" in message for message in messages)


def test_metrics_count_no_evaluations(train_cell):
    register_metric("mine")(changes_modes)
    without, with_metric = train_cell(name="a"), train_cell(name="b", evaluation__metrics=["mine"])
    assert without.record["evaluations"] == with_metric.record["evaluations"]
