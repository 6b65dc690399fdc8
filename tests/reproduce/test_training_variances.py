"""Variances along training, on a toy whose variances are known in closed form."""

from __future__ import annotations

import math

import pytest

from estbench.problems import gaussian_variances
from estbench.reproduce.measurements import measure

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
def found():
    return measure("training_variances", TOY)


def at(found, panel, series, step):
    (point,) = [p for p in found.points if (p["panel"], p["series"], p["x"]) == (f"d/d {panel}", series, step)]
    return point


@pytest.mark.parametrize(("series", "form"), [("reparam", "pathwise"), ("reinforce", "score-function")])
def test_the_start_has_the_variances_of_the_closed_form(found, series, form):
    point = at(found, "loc", series, 0)
    known = gaussian_variances.variance("quadratic", form, "loc", 1.0, 1.0, -1.0)
    # A t interval over 5 runs at a false-alarm rate of 1e-3 (t = 8.61) in place of its 95 % (t = 2.78).
    half = math.log(point["high"] / point["low"]) / 2 * 8.61 / 2.78
    assert abs(math.log(point["value"] / known)) < half


def test_training_moves_the_runs(found):
    # The pathwise variance of d/d loc is 4 scale^2: the scale shrinks on a quadratic cost.
    assert at(found, "loc", "reparam", 20)["high"] < at(found, "loc", "reparam", 0)["low"]


def test_the_ratio_is_that_of_the_points_and_the_largest_one_stands_for_all(found):
    ratios = [found.quantities[f"loc: reparam / reinforce, step {step}"] for step in (0, 20)]
    for step, ratio in zip((0, 20), ratios, strict=True):
        values = [at(found, "loc", series, step)["value"] for series in ("reparam", "reinforce")]
        assert ratio.value == pytest.approx(values[0] / values[1])
    largest = found.quantities["loc: reparam / reinforce, largest"]
    assert largest == max(ratios, key=lambda ratio: ratio.high)
    assert largest.n == 5
    assert largest.high < 1


def test_a_wrong_order_is_not_found():
    turned = measure("training_variances", {**TOY, "steps": [1], "compare": [["reinforce", "reparam"]]})
    assert turned.quantities["loc: reinforce / reparam, largest"].low > 1
