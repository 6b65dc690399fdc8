"""Objectives whose gradients are known, and the nodes to integrate over their noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.gaussian_toy import GAUSSIAN_EXAMPLES, GaussianToyOracle


@pytest.fixture
def toy():
    """Build a toy: ``toy("cosine", "analytic")``."""

    def build(cost="quadratic", kl="analytic", rows=None):
        return GaussianToyOracle(cost, kl, tuple(rows or GAUSSIAN_EXAMPLES[cost]))

    return build


@pytest.fixture
def quadrature():
    """Gauss-Hermite nodes for S independent standard normals: noise of (S, n^S) and weights of (n^S,)."""

    def build(samples, nodes):
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        weights = weights / math.sqrt(2 * math.pi)
        noise = torch.cartesian_prod(*[torch.from_numpy(points)] * samples).reshape(-1, samples).T
        products = torch.cartesian_prod(*[torch.from_numpy(weights)] * samples).reshape(-1, samples).prod(1)
        return noise.contiguous(), products

    return build
