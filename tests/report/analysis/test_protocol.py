"""What training did beside ascending the bound is said in the report."""

from __future__ import annotations

import types

import pytest

from estbench.report.analysis.protocol import describe_training

WARM_UP = {"start": 0.0, "end": 1.0, "steps": 1000, "shape": "linear"}


def frames(training, sweep=None):
    parts = {"training": training, "sweep": sweep}
    return types.SimpleNamespace(setting=lambda key, default=None: parts.get(key) or default)


@pytest.mark.parametrize(
    ("training", "sweep", "words"),
    [
        ({"kl_weight": 4.0}, {}, ["another objective than the bounds", "weight 4.", "true ones"]),
        ({"kl_weight": WARM_UP}, {}, ["from 0 to 1 in 1,000 steps"]),
        ({}, {"kl_weight": [0.5, 1.0, 2.0]}, ["weight 0.5 or 1 or 2"]),
        ({"temperature": {**WARM_UP, "shape": "exponential"}}, {}, ["temperature", "by equal ratios"]),
        ({"clip_norm": 5.0}, {}, ["clipped to the norm 5", "biased"]),
        ({"warmup_steps": 100}, {}, ["first 100 steps"]),
        ({"optimizer": "adamw", "weight_decay": 0.01}, {}, ["AdamW", "0.01"]),
    ],
)
def test_it_is_said_in_words(training, sweep, words):
    (line,) = describe_training(frames(training, sweep))
    for word in words:
        assert word in line


@pytest.mark.parametrize("training", [{}, None, {"kl_weight": 1.0, "optimizer": "adam"}, "strange", [1], 3.0])
def test_nothing_is_said_of_plain_training(training):
    assert describe_training(frames(training)) == []
    assert describe_training(frames({}, training)) == []


@pytest.mark.parametrize("value", ["strange", [], {"start": "a", "end": None}, {"start": 1}, ["a", {}]])
def test_the_record_of_a_stranger_may_say_anything(value):
    names = ("kl_weight", "temperature", "clip_norm", "warmup_steps")
    for line in describe_training(frames(dict.fromkeys(names, value))):
        assert isinstance(line, str)
