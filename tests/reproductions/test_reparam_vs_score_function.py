"""Learning curves of a toy with a closed form: the exact gradient leads a relaxed one, whose optimum is another."""

from __future__ import annotations

import pytest
from shipped_studies import load

from estbench.reproduce import Expectation

STUDY = load("reparam_vs_score_function")
RELAXED = "concrete[temperature=1.0]"
OPTIONS = {
    "problem": "bernoulli_toy[target=0.45]",
    "steps": 60,
    "every": 30,
    "batch_size": 20,
    "learning_rate": 0.1,
    "seeds": 3,
}


@pytest.fixture(scope="module")
def result():
    return STUDY.reparam_vs_score_function({**OPTIONS, "estimators": ["enumeration", RELAXED]})


def test_a_gain_is_what_the_closed_form_allows(result):
    # The expected cost falls from (0.55^2 + 0.45^2) / 2 = 0.2525 towards 0.45^2 = 0.2025.
    assert result.quantities["enumeration: gain"].low > 0.045
    assert result.quantities["enumeration: gain"].high < 0.05 + 0.0005  # the bounds' own Monte Carlo error: 4 sd


def test_the_exact_gradient_leads_and_the_opposite_is_contradicted(result):
    smallest = result.quantities[f"enumeration - {RELAXED}: smallest lead"]
    assert smallest.low > 0
    assert smallest.low <= result.quantities[f"enumeration - {RELAXED}: at the end"].low
    wrong = Expectation(quantity="q", relation="less", value=0.0, source="a wrong claim")
    assert wrong.verdict(smallest) == "contradicted"


def test_points_are_over_samples_seen(result):
    assert {point["x"] for point in result.points} == {0, 600, 1200}
    assert {point["series"] for point in result.points} == {"enumeration", RELAXED}
