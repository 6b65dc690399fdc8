"""Variances at shared checkpoints, on a toy whose variances are known in closed form."""

from __future__ import annotations

import math

import pytest
from shipped_studies import load

from estbench.problems import bernoulli_toy_variance
from estbench.reproduce import Expectation

pytestmark = pytest.mark.slow

STUDY = load("disarm_variances")
THETA, TARGET = 0.2, 0.1
OPTIONS = {
    "problem": f"bernoulli_toy[target={TARGET},theta={THETA}]",
    "guide": "enumeration",
    "estimators": ["reinforce", "rloo", "disarm"],
    "checkpoints": [0, 3],
    "batch_size": 4,
    "seeds": 5,
    "replicates": 400,
}


@pytest.fixture(scope="module")
def result():
    return STUDY.disarm_variances(OPTIONS)


@pytest.mark.parametrize("other", ["reinforce", "rloo"])
def test_ratios_are_those_of_the_closed_forms(result, other):
    expected = bernoulli_toy_variance("disarm", THETA, TARGET) / bernoulli_toy_variance(other, THETA, TARGET)
    ratio = result.quantities[f"disarm / {other}, step 0"]
    # The t interval at five seeds, widened from 95 % to a false-alarm rate of 1e-3 (8.61 / 2.78).
    half = math.log(ratio.high / ratio.low) / 2 * 8.61 / 2.78
    assert abs(math.log(ratio.value / expected)) < half


def test_a_minibatch_of_four_has_a_quarter_of_the_variance(result):
    (point,) = [point for point in result.points if point["series"] == "reinforce" and point["x"] == 0]
    assert point["value"] == pytest.approx(bernoulli_toy_variance("reinforce", THETA, TARGET) / 4, rel=0.2)


def test_a_wrong_claim_is_contradicted(result):
    wrong = Expectation(quantity="q", relation="greater", value=1.0, source="a wrong claim")
    assert wrong.verdict(result.quantities["disarm / reinforce, step 3"]) == "contradicted"
