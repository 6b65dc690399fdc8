"""Poisson latents: their density and KL by a sum over counts, and the VAE that is made with them."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from estbench import estimators, problems
from estbench.latents import PoissonLatents

LATENTS = PoissonLatents(3)
COUNTS = torch.arange(80, dtype=torch.float64)


def params_of(*batch, seed=0):
    torch.manual_seed(seed)
    return LATENTS.split(torch.randn(*batch, LATENTS.outputs, dtype=torch.float64))


def test_zeros_have_the_mean_one():
    prior = LATENTS.family(LATENTS.split(torch.zeros(3, dtype=torch.float64)))
    z = COUNTS[:6, None].expand(-1, 3)
    expected = 3 * stats.poisson(1).logpmf(COUNTS[:6].numpy())
    torch.testing.assert_close(prior.log_prob(z), torch.from_numpy(expected))


@pytest.mark.parametrize("batch", [(), (4,), (2, 5)])
def test_the_kl_is_the_sum_over_counts(batch):
    q, p = params_of(*batch), params_of(seed=1)
    terms = 0.0
    for latent in range(3):
        log_q, log_p = (
            torch.distributions.Poisson(each["log_rate"][..., latent, None].exp()).log_prob(COUNTS) for each in (q, p)
        )
        terms = terms + (log_q.exp() * (log_q - log_p)).sum(-1)
    found = LATENTS.kl(q, p)
    assert found.shape == batch
    torch.testing.assert_close(found, terms, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, kl_divergence(LATENTS.family(q), LATENTS.family(p).expand(batch)))


def test_the_ratio_of_densities_is_linear_between_the_counts():
    """For relaxed counts: what is not linear in one density cancels."""
    q, p = (LATENTS.family(params_of(seed=seed)) for seed in (0, 1))
    z = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 4.0]], dtype=torch.float64)
    ends, middle = p.log_prob(z) - q.log_prob(z), p.log_prob(z.mean(0)) - q.log_prob(z.mean(0))
    torch.testing.assert_close(middle, ends.mean(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["rloo", "measure-valued", "arrival-times", "arrival-times[hard=true]"])
def test_a_vae_with_counts_trains(estimator):
    torch.manual_seed(3)
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2,latents=poisson]")
    x = problem.observe(torch.from_numpy(problem.data.train[:64]), torch.Generator().manual_seed(0))
    chosen = estimators.create_for(estimator, problem)
    optimizer = torch.optim.Adam(problem.parameters(), lr=0.01, maximize=True)

    def bound():
        with torch.no_grad():
            torch.manual_seed(4)
            objective = problem(x)
            return float((objective.f(objective.q.sample((200,))).mean(0) - objective.kl()).mean())

    before = bound()
    for _ in range(60):
        optimizer.zero_grad()
        chosen(problem(x)).mean().backward()
        assert all(weight.grad.isfinite().all() for weight in problem.parameters())
        optimizer.step()
    assert bound() > before + 5
