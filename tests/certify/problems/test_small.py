"""The exact gradients of the small problems, which everything else is compared with."""

from __future__ import annotations

import pytest
import torch

from estbench.certify.problems import CONTINUOUS, SMALL, WIDE, small_problems_for
from estbench.certify.problems.base import WEIGHTS

EPSILON = 1e-6


# Those of many draws or examples take seconds each.
SECONDS = {"normal, decoder, multi-sample"}
PROBLEMS = [
    *(pytest.param(problem, marks=[pytest.mark.slow] * (problem.name in SECONDS)) for problem in (*SMALL, *CONTINUOUS)),
    *(pytest.param(problem, marks=pytest.mark.slow) for problem in WIDE),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_the_exact_gradient_is_the_derivative_of_the_exact_value(problem):
    """Central differences of L, example by example: error of order epsilon^2 and of rounding over epsilon."""
    gradient = problem.exact_gradient()
    for name, value in {**problem.params, WEIGHTS: problem.weights, **problem.prior}.items():
        for place in [(0,) * (value.dim() - 1), tuple(size - 1 for size in value.shape[1:])]:
            shifted = []
            for step in (EPSILON, -EPSILON):
                leaves = problem.leaf_tensors()
                leaves[name].data[(slice(None), *place)] += step
                shifted.append(problem.objective(leaves).exact().detach())
            difference = (shifted[0] - shifted[1]) / (2 * EPSILON)
            torch.testing.assert_close(gradient[name][(slice(None), *place)], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("latents", sorted({problem.latents.name for problem in SMALL}))
@pytest.mark.parametrize("bound", ["elbo", "multi-sample"])
def test_a_family_has_three_problems_or_none(latents, bound):
    problems = small_problems_for({latents}, {bound})
    assert len(problems) >= 3 or not problems
    assert len({problem.name for problem in problems}) == len(problems)


def test_normal_bernoulli_and_categorical_latents_have_problems_for_both_bounds():
    for latents in ("normal", "bernoulli", "categorical"):
        for bound in ("elbo", "multi-sample"):
            assert len(small_problems_for({latents}, {bound})) >= 3


def test_both_conventions_of_the_kl_are_there():
    for latents in ("normal", "bernoulli", "categorical"):
        assert {problem.analytic_kl for problem in small_problems_for({latents}, {"elbo"})} == {True, False}


def test_replicates_are_copies_with_gradients_of_their_own():
    problem = SMALL[0]
    leaves = problem.leaf_tensors(3, dtype=torch.float32)
    assert {leaf.dtype for leaf in leaves.values()} == {torch.float32}
    objective = problem.objective(leaves)
    assert objective.batch_shape == (3, 2)
    (gradient,) = torch.autograd.grad(objective.kl()[1].sum(), [leaves["loc"]])
    assert gradient[[0, 2]].eq(0).all()
    assert gradient[1].ne(0).all()
