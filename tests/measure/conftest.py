"""Problems whose gradient moments and marginal likelihood are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.linear_gaussian import LinearGaussianOracle
from scipy import stats


@pytest.fixture
def linear_gaussian():
    return LinearGaussianOracle


@pytest.fixture
def batch():
    """Six observations, (B, 1)."""
    return torch.tensor([-2.0, -1.1, 0.0, 0.4, 1.5, 3.0], dtype=torch.float64)[:, None]


@pytest.fixture
def brute_force_moments():
    """Variance, squared norm of the mean and SNR of (R, P) gradients, and explicit leave-one-out values of each."""

    def statistics(gradients):
        n = len(gradients)
        variance = float(np.trace(np.atleast_2d(np.cov(gradients, rowvar=False))))
        pairs = [gradients[r] @ gradients[s] for r in range(n) for s in range(n) if r != s]
        signal = float(np.mean(pairs))
        return np.array([variance, signal, signal / variance if variance > 0 else math.nan])

    def build(gradients):
        gradients = np.asarray(gradients, dtype=np.float64)
        n = len(gradients)
        values = statistics(gradients)
        left = np.stack([statistics(np.delete(gradients, r, axis=0)) for r in range(n)])
        quantile = stats.t.ppf(0.975, n - 1)

        def interval(value, leave_one_out):
            error = math.sqrt((n - 1) / n * np.sum((leave_one_out - leave_one_out.mean()) ** 2))
            return value - quantile * error, value + quantile * error

        low, high = interval(math.log(values[0]), np.log(left[:, 0]))
        squares = [values[2], *interval(values[2], left[:, 2])]
        return {
            "variance": (values[0], math.exp(low), math.exp(high)),
            "mean_norm2": (values[1], *interval(values[1], left[:, 1])),
            "snr": tuple(math.sqrt(max(0.0, square)) for square in squares),
        }

    return build
