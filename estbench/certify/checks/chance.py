"""How often a certificate may see what is not there: one budget for all of its checks that sample."""

from __future__ import annotations

from scipy import stats

FALSE_ALARM = 1e-4  # of one certificate, over all checks, settings and coordinates
# What each check gets of it.
SHARES = {
    "unbiased": 0.4,
    "as in a probe": 0.1,
    "one example at a time": 0.1,
    "batch sizes": 0.05,
    "independent calls": 0.1,
    "decoder gradient": 0.05,
    "order of the batch": 0.05,
    "large f": 0.05,
    "known facts": 0.1,
}


def threshold(check: str, tests: int) -> float:
    """The bound of |z| for a check that makes so many tests in all (Bonferroni)."""
    return float(stats.norm.isf(FALSE_ALARM * SHARES[check] / (2 * tests)))
