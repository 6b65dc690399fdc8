"""Training on the toy bit against what is known of it in closed form."""

from __future__ import annotations

import math

import pytest
from shipped_studies import load

from estbench.reproduce import Expectation

STUDY = load("toy_training")
STEPS = 40
OPTIONS = {"target": 0.1, "steps": STEPS, "points": 2, "learning_rate": 0.1, "seeds": 3, "replicates": 4000}


@pytest.fixture(scope="module")
def result():
    return STUDY.toy_training({**OPTIONS, "estimators": ["enumeration", "reinforce"]})


def test_the_exact_gradient_follows_adam_on_the_closed_form(result):
    cost = result.quantities["enumeration: cost left"]
    assert cost[:3] == pytest.approx((2 * _adam_theta(),) * 3, rel=1e-9)
    assert result.quantities["enumeration: variance / that of REINFORCE"].value < 1e-20


def test_reinforce_has_its_own_variance(result):
    # Each variance has a relative standard error of about 2 % here; three seeds and two checkpoints average it.
    ratio = result.quantities["reinforce: variance / that of REINFORCE"]
    assert ratio.low < 1 < ratio.high
    assert ratio.value == pytest.approx(1, abs=0.1)
    wrong = Expectation(quantity="q", relation="less", value=0.5, source="a wrong claim")
    assert wrong.verdict(ratio) == "contradicted"


def test_points_start_from_a_fair_coin(result):
    start = [point["value"] for point in result.points if point["x"] == 0 and point["panel"].startswith("expected")]
    assert start == [1.0, 1.0]


def test_every_panel_has_its_own_axis_and_noise_is_relative_to_reinforce(result):
    assert {point["panel"] for point in result.points} == set(result.panels)
    assert [panel.level for panel in result.panels.values()] == [None, 1.0]
    noise = [point for point in result.points if point["series"] == "reinforce" and "noise" in point["panel"]]
    assert all(point["low"] / 1.2 < 1 < point["high"] * 1.2 for point in noise)
    assert len(noise) == 3


def _adam_theta() -> float:
    """Theta after Adam's steps along the exact gradient -theta (1 - theta) (f(1) - f(0)), written out."""
    logit = first = second = 0.0
    for step in range(1, STEPS + 1):
        theta = 1 / (1 + math.exp(-logit))
        gradient = -theta * (1 - theta) * (0.9**2 - 0.1**2)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        logit += 0.1 * first / (1 - 0.9**step) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return 1 / (1 + math.exp(-logit))
