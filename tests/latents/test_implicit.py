"""Gamma, beta, Dirichlet and Student t latents: their priors, their KL, and the VAE that is made with them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.latents import IMPLICIT, BetaLatents, DirichletLatents, GammaLatents, StudentTLatents
from estbench.measure import evaluate_elbo

FAMILIES = [GammaLatents(3), BetaLatents(3), DirichletLatents(2, 3), StudentTLatents(3)]
PRIORS = {
    "gamma": stats.expon(),
    "beta": stats.uniform(),
    "dirichlet": stats.dirichlet([1.0, 1.0, 1.0]),
    "student-t": stats.t(3),
}


def name_of(latents):
    return latents.name


def params_of(latents, *batch):
    torch.manual_seed(0)
    return latents.split(torch.randn(*batch, latents.outputs, dtype=torch.float64))


def test_each_family_is_one_that_the_vae_offers():
    assert {latents.name for latents in FAMILIES} == IMPLICIT


@pytest.mark.parametrize("latents", FAMILIES, ids=name_of)
def test_zeros_are_the_standard_prior(latents):
    prior = latents.family(latents.split(torch.zeros(latents.outputs, dtype=torch.float64)))
    torch.manual_seed(1)
    z = prior.sample((5,))
    if latents.name == "dirichlet":
        expected = [sum(PRIORS["dirichlet"].logpdf(point.numpy()) for point in row) for row in z]
    else:
        expected = PRIORS[latents.name].logpdf(z.numpy()).sum(-1)
    torch.testing.assert_close(prior.log_prob(z), torch.as_tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("batch", [(4,), (6, 4), (2, 3, 4)])
@pytest.mark.parametrize("latents", FAMILIES, ids=name_of)
def test_shapes(latents, batch):
    q = latents.family(params_of(latents, *batch))
    z = q.sample((5,))
    assert q.batch_shape == batch
    assert z.shape == (5, *batch, *q.event_shape)
    assert latents.flat(z).shape == (5, *batch, latents.inputs)
    assert q.log_prob(z).shape == (5, *batch)


@pytest.mark.parametrize("latents", [latents for latents in FAMILIES if latents.closed_form_kl], ids=name_of)
def test_the_kl_is_that_of_torch_and_of_many_draws(latents):
    """Also against a prior without batch dimensions. n = 100,000 draws per example, a z-test."""
    q, p = params_of(latents, 4), latents.split(torch.full((latents.outputs,), 0.3, dtype=torch.float64))
    found = latents.kl(q, p)
    family, prior = latents.family(q), latents.family(p)
    torch.testing.assert_close(found, kl_divergence(family, prior.expand([4])))
    torch.manual_seed(2)
    z = family.sample((100_000,))
    ratio = family.log_prob(z) - prior.log_prob(z)
    score = (ratio.mean(0) - found) / ratio.std(0) * math.sqrt(len(z))
    assert float(score.abs().max()) < stats.norm.isf(1e-4 / (2 * 4 * 3))


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("latents", sorted(IMPLICIT))
@pytest.mark.parametrize("estimator", ["implicit", "reinforce[baseline=ema]", "rloo", "detached"])
def test_a_vae_with_them_trains(latents, estimator):
    """Finite gradients in single precision for every weight, and a bound that a few steps raise."""
    torch.manual_seed(3)
    problem = problems.create(f"vae[dataset=digits,latents={latents},latent_size=3,hidden=[8]]")
    estimator = estimators.create(estimator)
    x = problem.observe(torch.from_numpy(problem.data.train[:64]), torch.Generator().manual_seed(4))
    before = evaluate_elbo(problem, x, 8, seed=0)
    optimizer = torch.optim.Adam(problem.parameters(), lr=0.01, maximize=True)
    for _ in range(30):
        optimizer.zero_grad()
        estimator(problem(x)).mean().backward()
        assert all(weight.grad.isfinite().all() for weight in problem.parameters())
        optimizer.step()
    after = evaluate_elbo(problem, x, 8, seed=0)
    assert after.elbo > before.elbo + 5
    assert after.iwae >= after.elbo


@pytest.mark.parametrize("latents", sorted(IMPLICIT))
def test_the_kl_is_analytic_where_there_is_a_closed_form(latents):
    torch.manual_seed(5)
    problem = problems.create(f"vae[dataset=digits,latents={latents},latent_size=3,hidden=[8]]").double()
    x = problem.observe(torch.from_numpy(problem.data.train[:4]), torch.Generator().manual_seed(6)).double()
    objective = problem(x)
    assert bool(objective.kl().gt(0).all()) == (latents != "student-t")
    z = objective.q.sample((2,))
    carried = objective.f(z) - (objective.log_weight(z) if latents == "student-t" else 0)
    assert carried.eq(0).all() == (latents == "student-t")


@pytest.mark.parametrize("latents", sorted(IMPLICIT))
def test_a_learned_prior_starts_from_the_fixed_one_and_gets_a_gradient(latents):
    torch.manual_seed(7)
    problem = problems.create(f"vae[dataset=digits,latents={latents},latent_size=3,hidden=[8],prior=learned]")
    x = problem.observe(torch.from_numpy(problem.data.train[:4]), torch.Generator().manual_seed(8))
    assert all(value.eq(0).all() for value in problem.prior.params.values())
    estimators.create("implicit")(problem(x)).mean().backward()
    (weight,) = problem.groups()["prior"]
    assert weight.grad.isfinite().all()
    assert weight.grad.ne(0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("latents=gamma,coding=signed", "option 'coding' has no effect with latents=gamma; drop it"),
        ("latents=beta,categories=3", "option 'categories' has no effect with latents=beta; drop it"),
        ("latents=student-t,kl=sampled", "option 'kl' has no effect with latents=student-t; drop it"),
        ("latents=cauchy", "latents: input should be 'normal'"),
    ],
)
def test_options_that_do_not_apply_are_refused(options, said):
    with pytest.raises(EstbenchError, match=said):
        problems.create(f"vae[{options}]")


@pytest.mark.parametrize("options", ["latents=beta,coding=signed", "latents=dirichlet,categories=3,coding=signed"])
def test_options_that_apply_are_taken(options):
    problems.create(f"vae[dataset=digits,hidden=[4],{options}]")
