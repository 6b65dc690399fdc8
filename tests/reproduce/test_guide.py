"""What experiments/reproductions/README.md says is true: its table has every key, its measurement runs."""

import re
from pathlib import Path

import pytest

from estbench.reproduce import Card, Expectation, measurements
from estbench.reproduce.measurements import measure

GUIDE = (Path(__file__).parents[2] / "experiments" / "reproductions" / "README.md").read_text(encoding="utf-8")


def test_its_table_has_every_key_of_a_card():
    rows = "\n".join(line for line in GUIDE.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`\[*(\w+)\]*`", rows))
    assert {*Card.model_fields, *Expectation.model_fields} - {"name"} <= named


def test_its_measurement_runs(monkeypatch):
    measurements.known("gaussian_toy_variances")  # all modules are imported now, and not into the copy
    monkeypatch.setattr(measurements, "_MEASUREMENTS", dict(measurements._MEASUREMENTS))
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    exec(example, {"__name__": "guide"})  # noqa: S102
    found = measure("mean_of_values", {"values": [1.0, 2.0, 6.0]})
    assert found.quantities["mean"].value == pytest.approx(3)
    assert found.points[0]["panel"] == "values"
