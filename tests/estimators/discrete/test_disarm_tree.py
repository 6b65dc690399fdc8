"""DisARM on trees of bits: exact by a sum over all pairs of bits, and the mean of DisARM on all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles.discrete_objectives import moments, objective_of, prepared
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, Enumerated, estimate, named

from estbench import estimators
from estbench.estimators._noise import as_categorical_logits
from estbench.estimators.discrete import arm, disarm_tree
from estbench.estimators.discrete.disarm_tree import node_logits, reached, tree

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]
SHAPES = ["stick-breaking", "balanced"]
# What antithetic bits (b, b') of a node can be; only one of the first and the last has a probability above zero.
PAIRS = torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)], dtype=torch.float64)


def pair_law(theta):
    """The probabilities of ``PAIRS``, (4, *theta.shape)."""
    unlike = torch.minimum(theta, 1 - theta)
    return torch.stack([(1 - 2 * theta).clamp(min=0), unlike, unlike, (2 * theta - 1).clamp(min=0)])


def all_bits(theta):
    """All pairs of all nodes, (2, 1, N, B, D, nodes), and their probabilities, (N, B), from theta of (B, D, nodes)."""
    examples, shape = len(theta), theta.shape[1:]
    choice = torch.cartesian_prod(*[torch.arange(4)] * shape.numel()).view(-1, shape.numel())
    law = pair_law(theta.flatten(1))
    probability = torch.stack([law[choice[:, node], :, node] for node in range(choice.shape[1])]).prod(0)
    bits = PAIRS[choice].movedim(-1, 0)[:, None, :, None].expand(-1, 1, -1, examples, -1)
    return bits.unflatten(-1, shape), probability


def tree_for(logits, shape):
    return tree(logits.shape[-1], shape, logits.dtype, logits.device)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_mean_is_exact(problem, shape, monkeypatch):
    """Of all groups of gradients, the model's own included."""
    with torch.no_grad():
        logits = as_categorical_logits(problem.objective(problem.leaf_tensors()))
        bits, probability = all_bits(node_logits(logits, tree_for(logits, shape)).sigmoid())
    monkeypatch.setattr(disarm_tree, "antithetic_bits", lambda logits, pairs: (None, bits))
    estimator = estimators.create(f"disarm-tree[shape={shape}]")
    Enumerated(estimate(estimator, problem, len(probability)), probability).assert_exact(problem)


@pytest.mark.parametrize("shape", SHAPES)
def test_of_five_categories_the_mean_is_exact_and_the_noise_no_more_than_with_all_bits(shape, monkeypatch):
    """What the paths do not use was averaged out: the variance of each logit falls, and the mean stays."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 1, 5, dtype=torch.float64, generator=generator)
    value = torch.randn(5, dtype=torch.float64, generator=generator)
    branches = tree_for(logits, shape)

    def f(z):
        return (z[..., 0, :] * value).sum(-1)

    bits, probability = all_bits(node_logits(logits, branches).sigmoid())
    monkeypatch.setattr(disarm_tree, "antithetic_bits", lambda logits, pairs: (None, bits))
    leaf = logits.expand(len(probability), *logits.shape).clone().requires_grad_()
    objective = objective_of(leaf, f, 5)
    (found,) = torch.autograd.grad(prepared(f"disarm-tree[shape={shape}]", objective)(objective).sum(), [leaf])
    first, second = value[reached(bits, branches)].squeeze(1).squeeze(-1)  # (N, B)
    alpha = node_logits(leaf, branches)
    everywhere = 0.5 * (first - second)[..., None, None] * (bits[0] - bits[1])[0] * alpha.detach().abs().sigmoid()
    (plain,) = torch.autograd.grad((everywhere * alpha).sum(), [leaf])
    p = logits.softmax(-1)
    exact = p * (value - (p * value).sum(-1, keepdim=True))
    (mean, variance), (plain_mean, plain_variance) = moments(found, probability), moments(plain, probability)
    torch.testing.assert_close(mean, exact, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(plain_mean, exact, rtol=1e-10, atol=1e-12)
    assert (variance <= plain_variance + 1e-12).all()
    assert variance.sum() < 0.9 * plain_variance.sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("categories", range(2, 8))
def test_the_bits_of_a_path_have_the_probability_of_its_category(categories, shape):
    """By all bits: those that lead to a category together have its probability, whatever the shape."""
    logits = torch.randn(categories, dtype=torch.float64, generator=torch.Generator().manual_seed(categories))
    branches = tree_for(logits, shape)
    assert branches.shape == (categories - 1, categories)
    theta = node_logits(logits, branches).sigmoid()
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=categories - 1)), dtype=torch.float64)
    chance = (bits * theta + (1 - bits) * (1 - theta)).prod(-1)
    total = torch.zeros(categories, dtype=torch.float64).index_add(0, reached(bits, branches), chance)
    torch.testing.assert_close(total, logits.softmax(-1), rtol=1e-12, atol=1e-15)


def test_a_balanced_tree_has_short_paths():
    used = {shape: tree(16, shape, torch.float64, torch.device("cpu")).abs().sum(0) for shape in SHAPES}
    assert used["balanced"].tolist() == [4.0] * 16
    assert used["stick-breaking"].tolist() == [*range(1, 16), 15]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("problem", **named([problem for problem in FINITE if problem.latents.name == "bernoulli"]))
def test_two_categories_are_disarm(problem, shape, monkeypatch):
    """Draw by draw. The first branch is the category of a zero: its bit is the other one."""
    uniform = torch.rand(1, 50, *problem.params["logits"].shape, generator=torch.Generator().manual_seed(0)).double()
    monkeypatch.setattr(arm, "open_uniform", lambda like: uniform.view(like.shape))
    found = [estimate(estimators.create(name), problem, 50) for name in (f"disarm-tree[shape={shape}]", "disarm")]
    for group, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][group], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_nearly_certain_categories_give_finite_gradients(shape, dtype):
    logits = torch.tensor([[[-200.0, 0, 30], [0, 0, 200], [-100, -100, 100]]], dtype=dtype).requires_grad_()
    objective = objective_of(logits, lambda z: z.flatten(-2).sum(-1).cos(), 3)
    estimator = prepared(f"disarm-tree[shape={shape},num_pairs=3]", objective)
    (found,) = torch.autograd.grad(estimator(objective).sum(), [logits])
    assert found.isfinite().all()
