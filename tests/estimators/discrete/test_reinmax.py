"""ReinMax and ZGR: exact on quadratics, biased beyond, and each other's equal at temperature 1."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, bias, distribution_and_states, named, over_samples

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators._surrogates import softmax_jacobian

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]
NAMES = ("reinmax", "zgr")


def cubic(z, w):
    """Of the third order in each single latent."""
    return (w * z).sum(-1).pow(3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_exact_on_quadratics(name, problem):
    """Products of different latents are among them; the decoder's gradient is exact too."""
    over_samples(estimators.create(name), problem).assert_exact(problem)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_biased_from_the_third_order_on(name, problem):
    problem = dataclasses.replace(problem, integrand=cubic)
    found = over_samples(estimators.create(name), problem)
    found.assert_exact(problem, groups=["weights"])
    assert bias(found, problem) > 0.01


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_above_temperature_one_it_is_biased_on_quadratics_too(problem):
    biases = [bias(over_samples(estimators.create(f"reinmax[temperature={t}]"), problem), problem) for t in (1.1, 2.0)]
    assert 0.01 < biases[0] < biases[1]


def test_the_temperature_is_at_least_one():
    with pytest.raises(EstbenchError, match="temperature: input should be greater than or equal to 1"):
        estimators.create("reinmax[temperature=0.9]")


@pytest.mark.parametrize("problem", **named(FINITE))
def test_both_are_the_same_at_temperature_one_sample_by_sample(problem):
    reinmax, zgr = (over_samples(estimators.create(name), problem) for name in NAMES)
    for group in ("logits", "weights"):
        torch.testing.assert_close(reinmax.gradients[group], zgr.gradients[group], rtol=1e-12, atol=1e-13)


def test_zgr_is_the_average_of_straight_through_and_of_a_linear_f_s_score():
    """(J(p) g + (g'(z - p)) (z - p)) / 2 for g = df/dz, written out for each sample."""
    problem = EXPONENTIAL[1]
    q, values = distribution_and_states(problem)
    found = over_samples(estimators.create("zgr"), problem).gradients["logits"]
    z = values[:, None].expand(found.shape).clone().requires_grad_()
    objective = problem.objective(problem.leaf_tensors(len(values)))
    (g,) = torch.autograd.grad(objective.f(z[None], objective.frozen_q()).sum(), z)
    p = q.base_dist.probs
    straight_through = p * (g - (p * g).sum(-1, keepdim=True))
    score = (g * (z - p)).sum(-1, keepdim=True) * (z - p)
    torch.testing.assert_close(found, ((straight_through + score) / 2).detach(), rtol=1e-12, atol=1e-13)


def test_the_softmax_jacobian_is_the_softmax_s_own():
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)

    def jacobian(function):
        return torch.autograd.functional.jacobian(function, logits)

    torch.testing.assert_close(
        jacobian(lambda x: softmax_jacobian(p, x)), jacobian(lambda x: x.softmax(-1)), rtol=0, atol=1e-15
    )
