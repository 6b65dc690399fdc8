"""The README of the cards is true: its table has every key, its study runs."""

import re

import pytest
from shipped_studies import FOLDER

from estbench.reproduce import Expectation, ReproductionCard, load_study

GUIDE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_its_table_has_every_key_of_a_card():
    rows = "\n".join(line for line in GUIDE.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`\[*(\w+)\]*`", rows))
    assert {*ReproductionCard.model_fields, *Expectation.model_fields} - {"name"} <= named


def test_its_study_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    path = tmp_path / "mean_of_values.py"
    path.write_text(example, encoding="utf-8")
    result = load_study(path)({"values": [1.0, 2.0, 6.0]})
    assert result.quantities["mean"].value == pytest.approx(3)
    assert result.points[0]["panel"] == "values"
