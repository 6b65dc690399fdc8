"""CARMS: exact by a sum over all of its sticks, ARMS for two categories, leave-one-out for independent samples."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles.discrete_objectives import moments, objective_of, prepared
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, Enumerated, estimate, named

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators._noise import as_categorical_logits
from estbench.estimators.discrete.arms import COPULAS
from estbench.estimators.discrete.carms import pair_weights, sticks

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]


def all_below(m, samples, count):
    """P(``count`` given ones of S uniforms of the Dirichlet copula are below m): all of these d are above 1 - m'."""
    return (1 - count * (1 - m ** (1 / (samples - 1)))).clamp(min=0) ** (samples - 1)


def exactly_below(m, pattern):
    """P(those of the pattern are below m and the others are not), by inclusion and exclusion."""
    samples, inside = len(pattern), sum(pattern)
    terms = [
        (-1) ** more
        * len(list(itertools.combinations(range(samples - inside), more)))
        * all_below(m, samples, inside + more)
        for more in range(samples - inside + 1)
    ]
    return torch.stack(terms).sum(0)


def all_sticks(psi, samples):
    """Uniforms that break each stick of (B, *sticks) in some samples, (S, N, B, *sticks), and probabilities, (N, B).

    All combinations: a zero breaks any stick, a one breaks none.
    """
    examples, shape = len(psi), psi.shape[1:]
    patterns = list(itertools.product([0, 1], repeat=samples))
    law = torch.stack([exactly_below(psi.flatten(1), pattern) for pattern in patterns])  # (2^S, B, sticks)
    choice = torch.cartesian_prod(*[torch.arange(len(patterns))] * shape.numel()).view(-1, shape.numel())  # (N, sticks)
    probability = torch.stack([law[choice[:, stick], :, stick] for stick in range(choice.shape[1])]).prod(0)
    uniform = (1 - torch.tensor(patterns, dtype=torch.float64))[choice].movedim(-1, 0)  # (S, N, sticks)
    return uniform[:, :, None].expand(-1, -1, examples, -1).unflatten(-1, shape), probability


def draw_from(uniform, monkeypatch):
    """Let the Dirichlet copula give these uniforms."""
    monkeypatch.setitem(COPULAS, "dirichlet", (lambda like: uniform.view(like.shape), COPULAS["dirichlet"][1]))


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_mean_is_exact(problem, samples, monkeypatch):
    """Of all groups of gradients, the model's own included."""
    with torch.no_grad():
        _, psi = sticks(as_categorical_logits(problem.objective(problem.leaf_tensors())))
    uniform, probability = all_sticks(psi, samples)
    draw_from(uniform, monkeypatch)
    estimator = estimators.create(f"carms[num_samples={samples}]")
    Enumerated(estimate(estimator, problem, len(probability)), probability).assert_exact(problem)


@pytest.mark.parametrize("samples", [2, 3])
def test_of_five_categories_the_mean_is_exact(samples, monkeypatch):
    generator = torch.Generator().manual_seed(4)
    logits, value = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((1, 1, 5), (5,)))
    uniform, probability = all_sticks(sticks(logits)[1], samples)
    draw_from(uniform, monkeypatch)
    leaf = logits.expand(len(probability), *logits.shape).clone().requires_grad_()
    objective = objective_of(leaf, lambda z: (z[..., 0, :] * value).sum(-1), 5)
    estimator = prepared(f"carms[num_samples={samples}]", objective)
    (found,) = torch.autograd.grad(estimator(objective).sum(), [leaf])
    p = logits.softmax(-1)
    exact = p * (value - (p * value).sum(-1, keepdim=True))
    torch.testing.assert_close(moments(found, probability)[0], exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("problem", **named([problem for problem in FINITE if problem.latents.name == "bernoulli"]))
def test_two_categories_are_arms(problem, monkeypatch):
    """Draw by draw, from the same uniforms: the rarer category is the first stick."""
    uniform = torch.rand(4, 50, *problem.params["logits"].shape, generator=torch.Generator().manual_seed(0)).double()
    draw_from(uniform, monkeypatch)
    ours, theirs = (estimate(estimators.create(name), problem, 50) for name in ("carms", "arms"))
    for group, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[group], rtol=1e-12, atol=1e-12)


def test_independent_samples_are_leave_one_out(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, 2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.randn(8, dtype=torch.float64, generator=generator)
    seen = []

    def f(z):
        seen.append(z)
        return (z.flatten(-2) @ weights).exp()

    monkeypatch.setitem(COPULAS, "dirichlet", (torch.rand_like, lambda psi, samples: torch.ones_like(psi)))
    objective = objective_of(logits, f, 4)
    torch.manual_seed(2)
    (found,) = torch.autograd.grad(prepared("carms[num_samples=3]", objective)(objective).sum(), [logits])
    (z,) = seen
    value = f(z)
    signal = (value - value.mean(0)) / 2
    torch.testing.assert_close(found, (signal[..., None, None] * z).sum(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("copula", COPULAS)
@pytest.mark.parametrize("samples", [2, 3, 8])
def test_every_pair_of_categories_has_a_finite_weight(samples, copula):
    """Also of equal categories, of which the last but one has a stick of exactly one half."""
    for logits in (torch.zeros(6), torch.tensor([0.0, 1, 2, 3, 4, 5]), torch.tensor([-300.0, -300, -300, 0, 0, 300])):
        _, psi = sticks(logits.double())
        places = torch.arange(6)
        weights = pair_weights(psi, COPULAS[copula][1](psi, samples), places)
        others = ~torch.eye(6, dtype=torch.bool)
        assert weights.isfinite().all()
        assert (weights[others] > 0).all()
        assert weights.max() <= 6 * 5 / 2
        assert (weights == weights.T).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", ["carms[num_samples=2]", "carms", "carms[copula=gaussian]"])
def test_nearly_certain_categories_give_finite_gradients(variant, dtype):
    logits = torch.tensor([[[-200.0, 0, 30], [0, 0, 200], [-100, -100, 100]]], dtype=dtype).requires_grad_()
    objective = objective_of(logits, lambda z: z.flatten(-2).sum(-1).cos(), 3)
    (found,) = torch.autograd.grad(prepared(variant, objective)(objective).sum(), [logits])
    assert found.isfinite().all()


def test_a_copula_that_makes_no_difference_is_refused():
    with pytest.raises(EstbenchError, match="'copula' has no effect with num_samples=2; drop it"):
        estimators.create("carms[num_samples=2,copula=gaussian]")
