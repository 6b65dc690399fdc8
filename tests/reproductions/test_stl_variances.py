"""Variances of pathwise gradients around a known posterior."""

from __future__ import annotations

import math

import pytest
from shipped_studies import load

from estbench.reproduce import Expectation

STUDY = load("stl_variances")


@pytest.fixture(scope="module")
def result():
    return STUDY.stl_variances({"ratios": [0.25, 0.45, 0.55, 4.0], "offsets": [0.0, 1.0], "replicates": 20_000})


def test_the_closed_forms_hold(result):
    # 32 z-scores: a false alarm of 2e-5 if they are normal.
    assert result.quantities["largest |z|"].value < 5.0
    assert result.quantities["largest |z|"].n == 32


def test_nothing_is_left_at_the_posterior(result):
    assert result.quantities["stl at the posterior: variance"].value < 1e-28
    assert STUDY.variance("loc", 0.0, 1.0, "stl") == STUDY.variance("log_scale", 0.0, 1.0, "stl") == 0.0
    assert STUDY.variance("log_scale", 0.0, 1.0, "reparam") == 2.0


@pytest.mark.parametrize("parameter", ["loc", "log_scale"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_two_are_alike_at_half_the_variance(parameter, offset):
    stl, reparam = (STUDY.variance(parameter, offset, 0.5, name) for name in ("stl", "reparam"))
    assert math.isclose(stl, reparam, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("quantity", "relation", "value", "verdict"),
    [
        ("d/dloc, d = 0, r = 0.25: stl / reparam", "greater", 1.0, "reproduced"),
        ("d/dloc, d = 1, r = 4: stl / reparam", "less", 1.0, "reproduced"),
        ("d/dlog_scale, d = 1, r = 0.25: stl / reparam", "greater", 1.0, "reproduced"),
        ("d/dlog_scale, d = 0, r = 0.25: stl / reparam", "less", 1.0, "contradicted"),
    ],
)
def test_a_claim_is_judged_by_its_side(result, quantity, relation, value, verdict):
    expectation = Expectation(quantity=quantity, relation=relation, value=value, source="s")
    assert expectation.verdict(result.quantities[quantity]) == verdict


def test_the_crossing_is_between_places_of_the_grid(result):
    assert result.quantities["d/dloc, d = 0: r where stl becomes the less noisy"][1:3] == (0.45, 0.55)
