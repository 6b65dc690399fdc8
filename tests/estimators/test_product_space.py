"""The joint values of independent latents: the best of them, and draws without replacement."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles.enumeration import DECODER, ordered_probability
from scipy import stats

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators._product_space import most_probable, sample_excluding, sample_without_replacement

CODES = torch.tensor(list(itertools.product(range(3), repeat=2)))  # of two latents, three categories
DRAWS = 40_000
FALSE_ALARM = 1e-5


def log_probabilities(*shape, scale=1.0, dtype=torch.float64, seed=0):
    return (scale * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def joint(log_p):
    """Probabilities of all of ``CODES``, (9,), from (2, 3)."""
    return (log_p[0, CODES[:, 0]] + log_p[1, CODES[:, 1]]).exp()


def index(indices):
    """Places in ``CODES``."""
    return indices[..., 0] * 3 + indices[..., 1]


def assert_frequencies(outcomes, probabilities):
    """Pearson's chi-squared, at a false alarm of 1e-5."""
    counts = torch.bincount(outcomes, minlength=len(probabilities))
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    p_value = stats.chisquare(counts[possible], len(outcomes) * probabilities[possible]).pvalue
    assert p_value > FALSE_ALARM


def test_the_most_probable_are_those_of_the_enumeration():
    log_p = log_probabilities(5, 4, 3, 2)  # batch dimensions 5 and 4, three bits
    indices = torch.tensor(list(itertools.product(range(2), repeat=3)))
    everything = sum(log_p[..., latent, indices[:, latent]] for latent in range(3))
    for count in (1, 3, 8):
        assert torch.equal(most_probable(log_p, count), indices[everything.topk(count, -1)[1]].movedim(-2, 0))


def test_draws_without_replacement_have_the_law_of_one_after_the_other():
    """The chance of each ordered pair is q(a) q(b) / (1 - q(a))."""
    torch.manual_seed(0)
    log_p = log_probabilities(2, 3)
    first, second = index(sample_without_replacement(log_p.expand(DRAWS, 2, 3), 2))
    pairs = torch.cartesian_prod(torch.arange(9), torch.arange(9)).T
    probability = torch.where(pairs[0] == pairs[1], 0.0, ordered_probability(joint(log_p)[pairs]))
    assert float(probability.sum()) == pytest.approx(1)
    assert_frequencies(first * 9 + second, probability)


def test_the_last_of_all_values_is_drawn_as_well():
    """With as many draws as values each comes once, and the order has the right law at its end too."""
    torch.manual_seed(0)
    log_p = log_probabilities(2, 2)
    indices = sample_without_replacement(log_p.expand(DRAWS, 2, 2), 4)
    order = indices[..., 0] * 2 + indices[..., 1]
    assert torch.equal(order.sort(0)[0], torch.arange(4)[:, None].expand(4, DRAWS))
    permutations = torch.tensor(list(itertools.permutations(range(4)))).T
    p = torch.stack([log_p[0, i // 2] + log_p[1, i % 2] for i in range(4)]).exp()[permutations]
    probability = p[:3] / (1 - (p.cumsum(0) - p)[:3])
    key = (order * 4 ** torch.arange(4)[:, None]).sum(0)
    keys = (permutations * 4 ** torch.arange(4)[:, None]).sum(0)
    place = (key[:, None] == keys).long().argmax(-1)
    assert_frequencies(place, probability.prod(0))


def test_a_draw_outside_is_a_draw_from_what_is_left():
    torch.manual_seed(0)
    log_p = log_probabilities(2, 3)
    best = most_probable(log_p, 3)
    drawn = index(sample_excluding(log_p.expand(DRAWS, 2, 3), best[:, None].expand(-1, DRAWS, -1)))[0]
    probability = joint(log_p).index_fill(0, index(best), 0)
    assert_frequencies(drawn, probability / probability.sum())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_differ_however_flat_or_peaked_q_is(scale, dtype):
    """Among 10^20 values, and where one of them has all the mass that a float can tell from 1."""
    torch.manual_seed(0)
    log_p = log_probabilities(50, 20, 10, scale=scale, dtype=dtype)
    indices = sample_without_replacement(log_p, 6)
    best = most_probable(log_p, 5)
    for drawn in (indices, torch.cat([best, sample_excluding(log_p, best)])):
        assert drawn.shape == (6, 50, 20)
        same = (drawn[:, None] == drawn).all(-1)
        assert torch.equal(same, torch.eye(6, dtype=torch.bool)[..., None].expand(6, 6, 50))


@pytest.mark.parametrize("variant", ["unordered-set[num_samples=9]", "sum-and-sample[num_samples=9]", "top-k[top=8]"])
def test_more_values_than_there_are_is_an_error(variant):
    problem = DECODER[0]  # three bits
    with pytest.raises(EstbenchError, match="9 different values are asked of latents that have 8: lower the option"):
        estimators.create(variant)(problem.objective(problem.leaf_tensors()))
