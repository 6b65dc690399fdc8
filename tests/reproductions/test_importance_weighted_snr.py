"""Slopes of signal-to-noise ratios on the number of samples."""

from __future__ import annotations

import math

import pytest
import torch
from shipped_studies import load

from estbench.reproduce import Expectation

STUDY = load("importance_weighted_snr")


def test_a_power_law_has_its_exponent():
    samples = [2, 8, 32]
    assert math.isclose(STUDY.fit_slope(samples, [3 * count**-0.5 for count in samples]), -0.5, abs_tol=1e-12)


def test_a_ratio_below_what_the_draws_resolve_gives_no_slope():
    assert math.isnan(STUDY.fit_slope([2, 4], [0.1, 0.0]))


def test_the_weights_and_the_minibatch_are_those_of_the_seed_at_every_k():
    weights = {
        (count, seed): STUDY.build_model("linear_gaussian", count, seed).mu for count in (4, 64) for seed in (0, 1)
    }
    assert torch.equal(weights[4, 0], weights[64, 0])
    assert not torch.equal(weights[4, 0], weights[4, 1])
    rows = [STUDY.draw_minibatch(STUDY.build_model("linear_gaussian", 4, 0), 8, seed) for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


@pytest.fixture(scope="module")
def result():
    sweep = {"samples": [2, 8, 32], "fit_from": 8, "replicates": 50}
    return STUDY.importance_weighted_snr({"seeds": 3, "batch_size": 8, "estimators": {"iwae": sweep, "dreg": sweep}})


@pytest.mark.parametrize(
    ("quantity", "relation", "value", "verdict"),
    [
        ("iwae, prior: slope", "greater", 0.0, "reproduced"),
        ("dreg, encoder: slope", "greater", 0.0, "reproduced"),
        ("dreg, encoder: slope", "less", 0.0, "contradicted"),
    ],
)
def test_growth_is_told_from_decline(result, quantity, relation, value, verdict):
    expectation = Expectation(quantity=quantity, relation=relation, value=value, source="s")
    assert expectation.verdict(result.quantities[quantity]) == verdict
    assert result.quantities[quantity].n == 3


def test_every_k_is_a_point_of_the_figure(result):
    assert len(result.points) == 2 * 2 * 3
    assert {point["panel"] for point in result.points} == {"encoder", "prior"}
    assert all(point["value"] > 0 for point in result.points)
