"""Draws of the gradient, one by one: of each example's own surrogate, from a seed, at frozen state."""

from __future__ import annotations

import pytest
import torch

from estbench import estimators, problems
from estbench.measure import draw_gradients

THETA, TARGET = 0.3, 0.45
X = torch.zeros(3, 1, dtype=torch.float64)


@pytest.fixture
def toy():
    return problems.create(f"bernoulli_toy[theta={THETA},target={TARGET}]").double()


def test_an_exact_estimator_draws_the_gradient_of_every_example(toy):
    """The gradient of -E (b - t)^2 with respect to the logit is -theta (1 - theta) (1 - 2 t)."""
    draws = draw_gradients(toy, estimators.create("enumeration"), X, 5)
    expected = torch.full((5, 3, 1), -THETA * (1 - THETA) * (1 - 2 * TARGET), dtype=torch.float64)
    torch.testing.assert_close(draws["logits"], expected, rtol=1e-6, atol=0)  # theta is a float32 option


def test_parameters_may_be_given(toy):
    params = {"logits": torch.zeros(3, 1, dtype=torch.float64)}
    draws = draw_gradients(toy, estimators.create("enumeration"), X, 2, params=params)
    torch.testing.assert_close(draws["logits"], torch.full((2, 3, 1), -0.25 * (1 - 2 * TARGET), dtype=torch.float64))


def test_draws_are_those_of_the_seed_and_every_chunk_has_its_own(toy):
    estimator = estimators.create("reinforce[baseline=ema]").train()
    state, generator = {name: value.clone() for name, value in estimator.state_dict().items()}, torch.get_rng_state()
    first, again, other = (draw_gradients(toy, estimator, X, 7, seed, rows=6)["logits"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (7, 3, 1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert estimator.training
    assert all(torch.equal(value, state[name]) for name, value in estimator.state_dict().items())
    chunks = torch.split(draw_gradients(toy, estimator, X, 400, rows=600)["logits"], 200)
    assert not torch.equal(*chunks)


def test_their_variance_is_the_closed_form(toy):
    """Four standard errors of a sample variance of bits, by the fourth moment."""
    draws = draw_gradients(toy, estimators.create("reinforce"), X, 20_000)["logits"].flatten()
    variance, fourth = float(draws.var()), float((draws - draws.mean()).pow(4).mean())
    error = ((fourth - variance**2) / len(draws)) ** 0.5
    assert abs(variance - problems.bernoulli_toy_variance("reinforce", THETA, TARGET)) < 4 * error
