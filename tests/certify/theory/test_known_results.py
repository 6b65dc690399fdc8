"""The theoretical results: the formulas give the published numbers, and a wrong result is seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from estbench import estimators
from estbench.certify import EstimatorUnderTest
from estbench.certify.theory.known_results import KNOWN_RESULTS, known_results_for

# Variances of one estimate with respect to the logit, for f = (b - t)^2: REINFORCE, RLOO of two, ARM, DisARM.
ONE_BIT = {
    (0.5, 0.45): (0.01594, 0.000625, 0.0002083, 0),
    (0.5, 0.499): (0.01563, 2.5e-07, 8.333e-08, 0),
    (0.1, 0.49): (0.005995, 1.476e-05, 1.303e-05, 1.296e-05),
    (0.1, 0.45): (0.0077, 0.000369, 0.0003257, 0.000324),
    (0.8, 0.45): (0.007921, 0.000544, 0.0003973, 0.000384),
    (0.9, 0.49): (0.005275, 1.476e-05, 1.303e-05, 1.296e-05),
}


def create(label):
    return EstimatorUnderTest(label, lambda: estimators.create(label))


@pytest.mark.parametrize(("column", "label"), [(0, "reinforce"), (1, "rloo"), (2, "arm"), (3, "disarm")])
def test_the_formulas_of_one_bit_give_the_known_numbers(column, label):
    (result,) = [result for result in known_results_for(label) if result.claim == "f = (b - t)^2"]
    found = result.variance["logits"].flatten().tolist()
    expected = [row[column] for row in ONE_BIT.values()]
    assert found == pytest.approx(expected, rel=1e-3)


def test_disarm_is_never_noisier_than_arm_or_rloo():
    rloo, arm, disarm = (
        next(result.variance["logits"] for result in known_results_for(label) if result.claim == "f = (b - t)^2")
        for label in ("rloo", "arm", "disarm")
    )
    assert (disarm <= torch.minimum(arm, rloo)).all()


def test_the_formulas_of_quadratics_give_the_known_numbers():
    """At m = s = 1 and k = -3: 495 and 1546 for the score function, 4 and 72 for the path."""
    found = {
        label: [float(value[0]) for value in known_results_for(label)[0].variance.values()]
        for label in ("reinforce", "reparam")
    }
    assert found == {"reinforce": [495, 1546], "reparam": [4, 72]}


@pytest.mark.parametrize("result", KNOWN_RESULTS, ids=lambda result: f"{result.label}: {result.claim}")
def test_a_result_is_about_something(result):
    assert result.exact_mean or any((~expected.isnan()).any() for expected in result.variance.values())
    assert result.kind in {"closed-form variance", "known exactness"}
    for group, expected in result.variance.items():
        assert expected.shape == result.problem.params[group].shape


@pytest.mark.parametrize("label", ["reparam", "rloo[num_samples=4]", "stl"])
def test_a_wrong_result_is_seen(label):
    """By integration, by sampling, and where there should be no variance: 5 % more, or any at all."""
    result = known_results_for(label)[0]
    assert result.check(create(label)).outcome == "passed"
    wrong = {group: 1.05 * expected + (label == "stl") * 1e-6 for group, expected in result.variance.items()}
    check = dataclasses.replace(result, variance=wrong).check(create(label))
    assert check.outcome == "failed"
    assert "in theory" in check.message


def test_an_estimator_that_is_nowhere_exact_is_seen():
    result = dataclasses.replace(known_results_for("reparam")[0], variance={}, exact_mean=True)
    assert result.check(create("reparam")).outcome == "passed"
    assert result.check(create("detached")).outcome == "failed"
