"""The verdict on a claim follows from those on its checks."""

from __future__ import annotations

import pytest

from estbench.reproduce.card_result import combine

R, C, U = "reproduced", "contradicted", "undecided"


@pytest.mark.parametrize(
    ("verdicts", "combined"),
    [([R], R), ([R, R], R), ([U], U), ([R, U, R], U), ([C], C), ([R, C], C), ([U, C], C), ([C, U, R], C)],
)
def test_one_contradiction_decides_and_then_one_doubt(verdicts, combined):
    assert combine(verdicts) == combined
