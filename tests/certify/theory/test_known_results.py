"""The table of known variances: its formulas give the printed numbers, and a wrong one is seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from estbench import estimators
from estbench.certify import Subject
from estbench.certify.known import FACTS, facts_of

# Variances of one estimate with respect to the logit, for f = (b - t)^2: REINFORCE, RLOO of two, ARM, DisARM.
ONE_BIT = {
    (0.5, 0.45): (0.01594, 0.000625, 0.0002083, 0),
    (0.5, 0.499): (0.01563, 2.5e-07, 8.333e-08, 0),
    (0.1, 0.49): (0.005995, 1.476e-05, 1.303e-05, 1.296e-05),
    (0.1, 0.45): (0.0077, 0.000369, 0.0003257, 0.000324),
    (0.8, 0.45): (0.007921, 0.000544, 0.0003973, 0.000384),
    (0.9, 0.49): (0.005275, 1.476e-05, 1.303e-05, 1.296e-05),
}


def subject(label):
    return Subject(label, lambda: estimators.create(label))


@pytest.mark.parametrize(("column", "label"), [(0, "reinforce"), (1, "rloo"), (2, "arm"), (3, "disarm")])
def test_the_formulas_of_one_bit_give_the_known_numbers(column, label):
    (fact,) = [fact for fact in facts_of(label) if fact.claim == "f = (b - t)^2"]
    found = fact.variance["logits"].flatten().tolist()
    expected = [row[column] for row in ONE_BIT.values()]
    assert found == pytest.approx(expected, rel=1e-3)


def test_disarm_is_never_noisier_than_arm_or_rloo():
    rloo, arm, disarm = (
        next(fact.variance["logits"] for fact in facts_of(label) if fact.claim == "f = (b - t)^2")
        for label in ("rloo", "arm", "disarm")
    )
    assert (disarm <= torch.minimum(arm, rloo)).all()


def test_the_formulas_of_quadratics_give_the_known_numbers():
    """At m = s = 1 and k = -3: 495 and 1546 for the score function, 4 and 72 for the path."""
    found = {
        label: [float(value[0]) for value in facts_of(label)[0].variance.values()] for label in ("reinforce", "reparam")
    }
    assert found == {"reinforce": [495, 1546], "reparam": [4, 72]}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.label}: {fact.claim}")
def test_a_fact_is_about_something(fact):
    assert fact.exact_mean or any((~expected.isnan()).any() for expected in fact.variance.values())
    assert fact.kind in {"closed-form variance", "known exactness"}
    for group, expected in fact.variance.items():
        assert expected.shape == fact.setting.params[group].shape


@pytest.mark.parametrize("label", ["reparam", "rloo[num_samples=4]", "stl"])
def test_a_fact_that_is_not_so_is_seen(label):
    """By integration, by sampling, and where there should be no variance: 5 % more, or any at all."""
    fact = facts_of(label)[0]
    assert fact.check(subject(label)).outcome == "passed"
    wrong = {group: 1.05 * expected + (label == "stl") * 1e-6 for group, expected in fact.variance.items()}
    said = dataclasses.replace(fact, variance=wrong).check(subject(label))
    assert said.outcome == "failed"
    assert "in theory" in said.message


def test_an_estimator_that_is_nowhere_exact_is_seen():
    fact = dataclasses.replace(facts_of("reparam")[0], variance={}, exact_mean=True)
    assert fact.check(subject("reparam")).outcome == "passed"
    assert fact.check(subject("detached")).outcome == "failed"
