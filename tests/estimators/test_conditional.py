"""Noise given the sample that it produced: it gives that sample again, and has the right law."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.discrete_objectives import objective_of
from scipy import stats

from estbench.estimators._noise import (
    gumbel_perturbed_given_argmax,
    logistic_perturbed_given_bit,
    noise_pair,
)

DRAWS = 200_000
BIT_LOGITS = torch.tensor([[-2.0, -0.3, 0.0, 1.5]], dtype=torch.float64)
# Not normalised: a shift of all logits changes no probability, and must not change the noise.
CATEGORY_LOGITS = torch.tensor([[[1.0, 0.2, -0.7], [3.0, 3.0, 5.0]]], dtype=torch.float64)


def flat(z):
    return z.flatten(2).sum(-1)


@pytest.mark.parametrize(
    ("logits", "categories"), [(BIT_LOGITS, None), (CATEGORY_LOGITS, 3)], ids=["bernoulli", "categorical"]
)
def test_both_noises_give_the_sample_and_have_the_law_of_the_noise(logits, categories):
    """Mean, square and product of two coordinates, for the second noise against its marginal law."""
    torch.manual_seed(0)
    objective = objective_of(logits.expand(DRAWS, *logits.shape), flat, categories)
    sample, noise, given = noise_pair(objective, objective.params["logits"])
    for z in (noise, given):
        if categories is None:
            assert torch.equal((z > 0).double(), sample)
        else:
            assert torch.equal(z.argmax(-1), sample.argmax(-1))
    if categories is None:
        mean, variance = logits, math.pi**2 / 3
    else:
        mean, variance = logits.log_softmax(-1) + 0.5772156649015329, math.pi**2 / 6
    centred = (given - mean).flatten(1)
    moments = torch.cat([centred, centred.square() - variance, centred[:, :-1] * centred[:, 1:]], 1)
    z = moments.mean(0) / (moments.std(0) / math.sqrt(DRAWS))
    # No false alarm in any coordinate but with probability 1e-4.
    assert z.abs().max() < stats.norm.isf(1e-4 / (2 * len(z))), z


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearly_certain_bits_keep_their_sign_and_have_finite_gradients(dtype):
    logits = torch.tensor([-80.0, -20.0, 0.0, 20.0, 80.0], dtype=dtype).expand(1000, 5).clone().requires_grad_()
    torch.manual_seed(0)
    for bits in (torch.zeros(1000, 5, dtype=dtype), torch.ones(1000, 5, dtype=dtype)):
        z = logistic_perturbed_given_bit(logits, bits)
        assert torch.equal(z > 0, bits.bool())
        (gradient,) = torch.autograd.grad(z.sum(), [logits])
        assert gradient.isfinite().all()


def test_the_noise_given_the_largest_moves_with_the_probabilities_of_the_others_alone():
    """The largest is a Gumbel at zero wherever it is: its gradient is zero, that of the others is not."""
    log_p = CATEGORY_LOGITS.log_softmax(-1).requires_grad_()
    one_hot = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    z = gumbel_perturbed_given_argmax(log_p, one_hot)
    (largest,) = torch.autograd.grad(z[one_hot.bool()].sum(), [log_p], retain_graph=True, allow_unused=True)
    (others,) = torch.autograd.grad(z[~one_hot.bool()].sum(), [log_p])
    assert largest is None or largest.eq(0).all()
    assert others[~one_hot.bool()].ne(0).all()
