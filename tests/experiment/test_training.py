"""Settings of training: schedules, what may stand together, and keys that no new setting changes."""

from __future__ import annotations

import math

import pytest

from estbench import EstbenchError
from estbench.experiment import Schedule, Training
from estbench.options import validated

LINEAR = {"start": 0.0, "end": 1.0, "steps": 4}
EXPONENTIAL = {"start": 1.0, "end": 0.01, "steps": 4, "shape": "exponential"}


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (LINEAR, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]),
        ({"start": 2.0, "end": 1.0, "steps": 2}, [2.0, 1.5, 1.0, 1.0]),
        (EXPONENTIAL, [1.0, 10**-0.5, 0.1, 10**-1.5, 0.01, 0.01]),
        ({"start": 0.0, "end": 4.0, "steps": 1}, [0.0, 4.0, 4.0]),
    ],
)
def test_a_schedule_goes_from_its_start_to_its_end_and_stays(schedule, values):
    made = Schedule(**schedule)
    assert [made.at(step) for step in range(len(values))] == pytest.approx(values, abs=1e-15)
    assert made.at(10**9) == schedule["end"]


def test_a_setting_at_its_default_is_no_part_of_a_key():
    plain = {"steps", "batch_size", "learning_rate", "estimator_learning_rate", "optimizer", "schedule"}
    assert set(Training().model_dump(mode="json")) == plain
    assert set(Training(kl_weight=1.0, warmup_steps=0).model_dump()) == plain
    changed = {
        "optimizer": "adamw",
        "warmup_steps": 3,
        "clip_norm": 1.0,
        "kl_weight": LINEAR,
        "temperature": EXPONENTIAL,
    }
    dumped = validated(Training, changed, "training").model_dump(mode="json")
    assert set(dumped) == plain | set(changed) | {"weight_decay"}
    assert validated(Training, dumped, "training") == validated(Training, changed, "training")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"kl_weight": -0.5}, "kl_weight must be at least 0, got -0.5"),
        ({"kl_weight": "warm"}, 'kl_weight.number: input should be a valid number, got "warm"'),
        ({"kl_weight": {"start": 0.0}}, "kl_weight.schedule.end: is required"),
        ({"kl_weight": {**LINEAR, "stop": 3}}, "unknown key 'kl_weight.schedule.stop'; .*steps"),
        ({"kl_weight": {**LINEAR, "steps": 0}}, "kl_weight.schedule.steps: .* greater than or equal to 1"),
        ({"kl_weight": {**LINEAR, "shape": "exponential"}}, "an exponential schedule starts and ends above zero"),
        ({"temperature": LINEAR}, "a temperature is above zero"),
        ({"temperature": 0.5}, "temperature: "),
        ({"weight_decay": 0.1}, "weight_decay has no effect with optimizer = adam; take adamw"),
        ({"clip_norm": 0.0}, "clip_norm: input should be greater than 0"),
        ({"warmup_steps": -1}, "warmup_steps: input should be greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        validated(Training, settings, "training")


def test_learning_rates_rise_and_then_follow_their_schedule():
    plain, warmed = Training(steps=8, warmup_steps=4), Training(steps=8, warmup_steps=4, schedule="cosine")
    assert [plain.rate_at(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmed.rate_at(1) == pytest.approx(0.5 * math.cos(math.pi / 16))
    assert not Training().changes_rates
    assert plain.changes_rates
    assert warmed.changes_rates
