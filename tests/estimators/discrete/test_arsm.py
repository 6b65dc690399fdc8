"""ARS and ARSM: unbiased for several latents with swaps in all of them at once, and ARM where C = 2."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, Enumerated, estimate, named

from estbench import estimators
from estbench.certify import run_bias_tests
from estbench.certify.sampling import sample_gradients
from estbench.estimators.discrete import arsm
from estbench.randomness import seeded

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]
BITS = [problem for problem in FINITE if problem.latents.name == "bernoulli"]
CATEGORICAL = [problem for problem in FINITE if problem.latents.name == "categorical"]
COORDINATES = 200  # more than all z-scores that an estimator is judged by here


def nodes(logit):
    """Points and weights on (0, 1), exact for what is linear between the places where a bit flips."""
    p = 1 / (1 + np.exp(-logit))
    ends = [0.0, *sorted((p, 1 - p)), 1.0]
    points, weights = np.polynomial.legendre.leggauss(2)
    pairs = itertools.pairwise(ends)
    parts = [((b - a) * points / 2 + (a + b) / 2, (b - a) * weights / 2) for a, b in pairs]
    return tuple(torch.tensor(np.concatenate(column)) for column in zip(*parts, strict=True))


def over_noise(estimator, problem, monkeypatch):
    """Bits: the estimate is piecewise linear in each latent's noise, so that quadrature by pieces is exact."""
    grids = [[nodes(float(logit)) for logit in row] for row in problem.params["logits"]]
    u = torch.stack([torch.cartesian_prod(*[points for points, _ in row]) for row in grids], 1)  # (N, B, D)
    weight = torch.stack([torch.cartesian_prod(*[mass for _, mass in row]).prod(-1) for row in grids], 1)
    monkeypatch.setattr(arsm, "_dirichlet", lambda logits: torch.stack([1 - u, u], -1))
    return Enumerated(estimate(estimator, problem, len(u)), weight)


@pytest.mark.parametrize("name", ["ars", "arsm"])
@pytest.mark.parametrize("problem", **named(BITS))
def test_the_expected_gradient_is_exact_for_three_bits(problem, name, monkeypatch):
    """By quadrature over the noise of all three: joint swaps are unbiased."""
    over_noise(estimators.create(name), problem, monkeypatch).assert_exact(problem)


@pytest.mark.parametrize("problem", **named(BITS))
def test_for_bits_both_are_arm(problem, monkeypatch):
    """(f(1[u > 1 - theta]) - f(1[u < theta])) (u - 1/2), node by node."""
    found = [over_noise(estimators.create(name), problem, monkeypatch) for name in ("ars", "arsm")]
    u = arsm._dirichlet(None)[..., 1]
    leaves = problem.leaf_tensors(len(u))
    objective = problem.objective(leaves)
    theta = leaves["logits"].detach().sigmoid()
    high, low = ((u > 1 - theta).double(), (u < theta).double())
    difference = objective.f(torch.stack([high, low]), objective.frozen_q()).detach()
    surrogate = ((difference[0] - difference[1])[..., None] * (u - 0.5) * leaves["logits"]).sum(-1) - objective.kl()
    (expected,) = torch.autograd.grad(surrogate.sum(), [leaves["logits"]])
    for outcomes in found:
        torch.testing.assert_close(outcomes.gradients["logits"], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("problem", **named(CATEGORICAL))
@pytest.mark.parametrize("name", ["arsm", "ars"])
def test_the_mean_gradient_is_exact_for_two_latents_of_three_categories(problem, name):
    """Powered z-tests per coordinate; a bias of 2 % of the gradient's norm is caught 99 times in 100."""
    for test in run_bias_tests(estimators.create(name), problem, COORDINATES):
        assert test.detectable < 0.02
        assert test.unbiased, test


@pytest.mark.parametrize("problem", **named(CATEGORICAL))
def test_averaging_over_reference_categories_lowers_the_variance(problem):
    """Trace over the logits, from 20,000 draws: a ratio of three or so, measured to a few per cent."""
    variances = []
    for name in ("ars", "arsm"):
        with seeded(0, torch.device("cpu")):
            logits = sample_gradients(estimators.create(name), problem, 20_000)["logits"]
        variances.append(logits.var(0).sum())
    assert variances[1] < 0.8 * variances[0]


@pytest.mark.parametrize(("categories", "pairs"), [(2, 2), (3, 4), (10, 46)])
def test_the_evaluations_follow_the_formula(categories, pairs):
    latents = type(CATEGORICAL[0].latents)(2, categories)
    problem = dataclasses.replace(
        CATEGORICAL[2],
        latents=latents,
        params={"logits": torch.zeros(2, 2, categories, dtype=torch.float64)},
        weights=torch.ones(2, 2 * categories, dtype=torch.float64),
    )
    for name, expected in (("ars", categories), ("arsm", pairs)):
        objective = problem.objective(problem.leaf_tensors(5))
        estimator = estimators.create(name)
        estimator(objective)
        assert estimator.count_evaluations(objective) == expected
        assert objective.evaluations == expected * 5 * 2
