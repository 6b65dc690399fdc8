"""The table of all estimators: each has its row, of the facts that its class declares, and what it cites is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from estbench import estimators
from estbench.estimators import ESTIMATORS
from estbench.references import BIBTEX

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in LINES if line.startswith("| `")]
NOWHERE = "\N{EN DASH}"


def test_each_estimator_has_one_row():
    assert sorted(row[0].strip("`") for row in ROWS) == sorted(estimators.names())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_a_row_says_what_the_class_declares(row):
    name, year, unbiased, evaluations, *texts, seen = row
    declared = ESTIMATORS.get(name.strip("`"))
    reference = getattr(declared, "reference", "")
    found = re.search(r"year = \{(\d+)\}", BIBTEX[reference]) if reference else None
    assert year == (found[1] if found else NOWHERE)
    assert unbiased == ("yes" if declared.unbiased else "no")
    if isinstance(count := getattr(declared, "evaluations", None), int):
        assert evaluations == str(count)
    assert all(texts)
    for cited in re.findall(r"`([^`]+)`", seen):
        files = [ROOT / "experiments" / f"{cited}.toml", ROOT / "experiments" / "reproductions" / f"{cited}.toml"]
        assert any(file.exists() for file in files), cited
    assert seen == NOWHERE or "`" in seen
