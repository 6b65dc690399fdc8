"""Variances along training, on a toy whose variances are known in closed form."""

from __future__ import annotations

import math

import pytest
from shipped_studies import load

from estbench.problems import gaussian_toy_variance

STUDY = load("logistic_regression")
TOY = {
    "problem": "gaussian_toy[cost=quadratic,k=-1]",
    "steps": [0, 20],
    "draws": 4,
    "learning_rate": 0.02,
    "estimators": ["reparam", "reinforce"],
    "compare": [["reparam", "reinforce"]],
    "replicates": 4000,
}


@pytest.fixture(scope="module")
def result():
    return STUDY.logistic_regression(TOY)


def at(result, panel, series, step):
    (point,) = [p for p in result.points if (p["panel"], p["series"], p["x"]) == (f"d/d {panel}", series, step)]
    return point


@pytest.mark.parametrize(("series", "form"), [("reparam", "pathwise"), ("reinforce", "score-function")])
def test_the_start_has_the_variances_of_the_closed_form(result, series, form):
    point = at(result, "loc", series, 0)
    known = gaussian_toy_variance("quadratic", form, "loc", 1.0, 1.0, -1.0)
    # A t interval over 5 runs at a false-alarm rate of 1e-3 (t = 8.61) in place of its 95 % (t = 2.78).
    half = math.log(point["high"] / point["low"]) / 2 * 8.61 / 2.78
    assert abs(math.log(point["value"] / known)) < half


def test_training_moves_the_runs(result):
    # The pathwise variance of d/d loc is 4 scale^2: the scale shrinks on a quadratic cost.
    assert at(result, "loc", "reparam", 20)["high"] < at(result, "loc", "reparam", 0)["low"]


def test_the_ratio_is_that_of_the_points_and_the_largest_one_stands_for_all(result):
    ratios = [result.quantities[f"loc: reparam / reinforce, step {step}"] for step in (0, 20)]
    for step, ratio in zip((0, 20), ratios, strict=True):
        values = [at(result, "loc", series, step)["value"] for series in ("reparam", "reinforce")]
        assert ratio.value == pytest.approx(values[0] / values[1])
    largest = result.quantities["loc: reparam / reinforce, largest"]
    assert largest == max(ratios, key=lambda ratio: ratio.high)
    assert largest.n == 5
    assert largest.high < 1


def test_a_wrong_order_is_not_found():
    turned = STUDY.logistic_regression({**TOY, "steps": [1], "compare": [["reinforce", "reparam"]]})
    assert turned.quantities["loc: reinforce / reparam, largest"].low > 1
