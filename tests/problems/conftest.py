"""What the tests of problems share."""

from __future__ import annotations

import pytest
from scipy import stats


@pytest.fixture
def largest_z():
    """Bonferroni: any of ``tests`` z-scores of true hypotheses exceeds this with probability 1e-4 at most."""
    return lambda tests, false_alarm=1e-4: float(stats.norm.isf(false_alarm / (2 * tests)))
