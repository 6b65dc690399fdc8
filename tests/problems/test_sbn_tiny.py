"""The tiny networks: the exact gradient is the sum over all values, and what cannot be enumerated is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from estbench import problems
from estbench.errors import EstbenchError

VARIANTS = ("sbn_tiny", "sbn_tiny[kl=sampled]", "sbn_tiny[latents=categorical,latent_size=2]")


def build(variant, count=3):
    torch.manual_seed(1)
    problem = problems.create(variant).double()
    x = problem.observe(torch.from_numpy(problem.data.train[:count]), torch.Generator().manual_seed(2)).double()
    return problem, x


def log_joint(problem, z, x):
    """log p(x, z) by hand, (N, B): a linear decoder, fair coins or uniform categories."""
    logits = problem.vae.decoder(z.flatten(1))[:, None]
    log_likelihood = (x * logits.sigmoid().log() + (1 - x) * (1 - logits.sigmoid()).log()).sum(-1)
    values = 2 if problem.options.latents == "bernoulli" else problem.options.categories
    return log_likelihood - problem.options.latent_size * math.log(values)


def values_of(problem):
    size, categories = problem.options.latent_size, problem.options.categories
    if problem.options.latents == "bernoulli":
        return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size))).double()
    return torch.stack(
        [torch.eye(categories).double()[list(c)] for c in itertools.product(range(categories), repeat=size)]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_exact_elbo_and_gradient_are_the_sum_over_all_values(variant):
    problem, x = build(variant)
    z = values_of(problem)
    objective = problem(x)
    log_q = objective.q.log_prob(z[:, None].expand(-1, 3, *z.shape[1:]))
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(3).double(), rtol=0, atol=1e-12)
    elbo = (log_q.exp() * (log_joint(problem, z, x) - log_q)).sum(0)
    torch.testing.assert_close(objective.exact(), elbo, rtol=1e-11, atol=1e-11)
    weights = list(problem.parameters())
    pairs = (torch.autograd.grad(value.sum(), weights, retain_graph=True) for value in (objective.exact(), elbo))
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-10)


def test_the_exact_multi_sample_bound_is_the_sum_over_all_pairs():
    problem, x = build("sbn_tiny[latent_size=3,importance_samples=2]")
    z = values_of(problem)
    objective = problem(x)
    log_q = objective.q.log_prob(z[:, None].expand(-1, 3, -1))
    log_w = log_joint(problem, z, x) - log_q
    bound = sum(
        (log_q[i] + log_q[j]).exp() * (torch.logaddexp(log_w[i], log_w[j]) - math.log(2))
        for i, j in itertools.product(range(8), repeat=2)
    )
    torch.testing.assert_close(objective.exact(), bound, rtol=1e-11, atol=1e-11)
    assert problem.bound_of(problem.options) == "multi-sample"


def test_twelve_bits_are_enumerated():
    problem, x = build("sbn_tiny[latent_size=12]")
    assert problem(x).exact().shape == (3,)


def test_it_is_the_linear_vae_on_digits():
    problem, _ = build("sbn_tiny[latents=categorical,latent_size=3,categories=5]")
    torch.manual_seed(1)
    twin = problems.create("vae[dataset=digits,hidden=[],latents=categorical,latent_size=3,categories=5]").double()
    ours, theirs = list(problem.parameters()), list(twin.parameters())
    assert all(map(torch.equal, ours, theirs))
    assert [set(problem.groups()), problem.latents_of(problem.options)] == [{"encoder", "decoder"}, "categorical"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("latent_size=13", r"2\^13 values are too many to enumerate; at most 4096: take fewer"),
        ("latents=categorical,latent_size=7", r"4\^7 values are too many"),
        ("latent_size=5,importance_samples=3", r"2\^15 values are too many"),
        ("latent_size=1000000000", "too many"),
        ("categories=3", "'categories' has no effect with latents=bernoulli; drop it"),
        ("kl=sampled,importance_samples=2", "'kl' has no effect with importance_samples=2; drop it"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_so(options, said):
    with pytest.raises(EstbenchError, match=said):
        problems.create(f"sbn_tiny[{options}]")
