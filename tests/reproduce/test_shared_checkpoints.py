"""Variances at shared checkpoints, on a toy whose variances are known in closed form."""

from __future__ import annotations

import math

import pytest

from estbench.problems.bernoulli_toy import variance
from estbench.reproduce import Expectation
from estbench.reproduce.measurements import measure

pytestmark = pytest.mark.slow

THETA, TARGET = 0.2, 0.1
SETTINGS = {
    "problem": f"bernoulli_toy[target={TARGET},theta={THETA}]",
    "guide": "enumeration",
    "estimators": ["reinforce", "rloo", "disarm"],
    "checkpoints": [0, 3],
    "batch_size": 4,
    "seeds": 5,
    "replicates": 400,
}


@pytest.fixture(scope="module")
def found():
    return measure("shared_checkpoint_variances", SETTINGS)


@pytest.mark.parametrize("other", ["reinforce", "rloo"])
def test_ratios_are_those_of_the_closed_forms(found, other):
    expected = variance("disarm", THETA, TARGET) / variance(other, THETA, TARGET)
    ratio = found.quantities[f"disarm / {other}, step 0"]
    # The t interval at five seeds, widened from 95 % to a false-alarm rate of 1e-3 (8.61 / 2.78).
    half = math.log(ratio.high / ratio.low) / 2 * 8.61 / 2.78
    assert abs(math.log(ratio.value / expected)) < half


def test_a_minibatch_of_four_has_a_quarter_of_the_variance(found):
    (point,) = [point for point in found.points if point["series"] == "reinforce" and point["x"] == 0]
    assert point["value"] == pytest.approx(variance("reinforce", THETA, TARGET) / 4, rel=0.2)


def test_a_wrong_claim_is_contradicted(found):
    wrong = Expectation(quantity="q", relation="greater", value=1.0, source="a wrong claim")
    assert wrong.verdict(found.quantities["disarm / reinforce, step 3"]) == "contradicted"
