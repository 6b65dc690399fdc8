"""z-scores of sample means and variances, and the bound that they stay below."""

from __future__ import annotations

import math

from scipy import stats

from estbench.certify.sampling import variance_with_error


def z_of_variance(drawn, expected):
    """z-scores of sample variances, (n, ...) against (...), with the error from the sample's fourth moment."""
    variance, error = variance_with_error(drawn)
    return (variance - expected) / error


def z_of_mean(drawn, expected):
    """z-scores of sample means, (n, ...) against (...)."""
    return (drawn.mean(0) - expected) / drawn.std(0) * math.sqrt(len(drawn))


def largest_z(tests, false_alarm=1e-4):
    """Any of ``tests`` z-scores of true hypotheses exceeds this with probability ``false_alarm`` at most."""
    return float(stats.norm.isf(false_alarm / (2 * tests)))
