"""ELBO and IWAE against the marginal likelihood itself, where that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Bernoulli

from estbench import problems
from estbench.measure import elbo, evaluate_elbo

SEEDS = 40


def repeated(problem, x, num_samples, seeds=SEEDS):
    """Mean and standard error over seeds of (elbo, iwae, reconstruction)."""
    found = np.array([evaluate_elbo(problem, x, num_samples, seed)[:3] for seed in range(seeds)])
    return found.mean(0), found.std(0, ddof=1) / math.sqrt(seeds)


def t_allowed(tests, false_alarm=1e-4):
    return stats.t.isf(false_alarm / (2 * tests), SEEDS - 1)


def tiny_vae(kl="analytic"):
    """One latent, weights blown up so that q is far from the posterior and the bounds differ."""
    torch.manual_seed(1)
    problem = problems.create(f"vae[dataset=digits,latent_size=1,hidden=[5],kl={kl}]").double()
    with torch.no_grad():
        for weight in problem.decoder.parameters():
            weight.mul_(4)
    intensities = torch.from_numpy(problem.data.test[:6])
    return problem, problem.observe(intensities, torch.Generator().manual_seed(2)).double()


@torch.no_grad()
def by_quadrature(problem, x):
    """ELBO and log p(x), means over examples, on a fine grid: the trapezoidal rule is exact to rounding here."""
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    logits = problem.decoder(grid[:, None])
    log_joint = torch.stack([Bernoulli(logits=logits).log_prob(row).sum(-1) for row in x], 1)
    log_joint = log_joint - 0.5 * grid[:, None].square() - 0.5 * math.log(2 * math.pi)
    params = problem.encode(x)
    q = torch.distributions.Normal(params["loc"].squeeze(-1), params["log_scale"].squeeze(-1).exp())
    log_q = q.log_prob(grid[:, None])
    elbo = (log_q.exp() * (log_joint - log_q)).sum(0) * step
    return float(elbo.mean()), float((log_joint.logsumexp(0) + math.log(step)).mean())


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_bounds_of_a_vae_with_one_latent_agree_with_quadrature(kl):
    """t-test over 40 seeds for the ELBO; the IWAE bound climbs from it towards log p(x) and stays below."""
    problem, x = tiny_vae(kl)
    elbo, log_marginal = by_quadrature(problem, x)
    sizes = (1, 4, 16, 512)
    found = [repeated(problem, x, size) for size in sizes]
    for mean, error in found:
        assert abs(mean[0] - elbo) < t_allowed(len(sizes)) * error[0]
    iwae, errors = (np.array([part[index][1] for part in found]) for index in (0, 1))
    assert abs(iwae[0] - elbo) < t_allowed(len(sizes)) * errors[0]  # with one sample the two have the same mean
    gaps = np.diff(iwae) / np.hypot(errors[1:], errors[:-1])
    assert gaps[:2].min() > t_allowed(2)  # it increases with K, beyond doubt, until little is left to gain
    assert (iwae - log_marginal).max() < t_allowed(len(sizes)) * errors[iwae.argmax()]
    # At K = 512 what is left is the bias -Var(w) / (2 K p(x)^2), a small part of the gap at K = 1.
    assert log_marginal - iwae[-1] < 0.05 * (log_marginal - elbo)


def test_the_elbo_is_the_closed_form(linear_gaussian, batch):
    problem = linear_gaussian()
    mean, error = repeated(problem, batch, 200)
    assert abs(mean[0] - float(problem.elbo(batch).mean())) < t_allowed(1) * error[0]


def test_where_q_is_the_posterior_every_draw_is_the_marginal_likelihood(linear_gaussian, batch):
    """q(z|x) = N(x/2, 1/2): each importance weight is N(x; 0, 2), without noise; the ELBO has that of log p(x|z)."""
    problem = linear_gaussian(slope=0.5, offset=0.0, log_scale=-0.5 * math.log(2))
    expected = float(problem.log_marginal(batch).mean())
    for num_samples in (1, 7):
        assert evaluate_elbo(problem, batch, num_samples, seed=3).iwae == pytest.approx(expected, rel=1e-12)
    mean, error = repeated(problem, batch, 7)
    assert abs(mean[0] - expected) < t_allowed(1) * error[0]


@pytest.mark.parametrize("num_samples", [1, 3, 8, 20])
def test_chunks_are_bounded_and_every_example_gets_all_its_samples(num_samples, monkeypatch, linear_gaussian, batch):
    """At 8 rows a call: many examples of one sample, one of eight, or a part of the samples of one."""
    problem = linear_gaussian()
    shapes = []
    original = problem.objective

    def spying(params, x):
        objective = original(params, x)
        inner = objective._log_likelihood
        objective._log_likelihood = lambda z: shapes.append(z.shape[:-1]) or inner(z)
        return objective

    monkeypatch.setattr(problem, "objective", spying)
    monkeypatch.setattr(elbo, "ROWS", 8)
    evaluate_elbo(problem, batch, num_samples, seed=0)
    assert sum(shape.numel() for shape in shapes) == num_samples * len(batch)
    assert max(shape.numel() for shape in shapes) <= 8


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_chunking_changes_no_expected_value(rows, monkeypatch, linear_gaussian, batch):
    """Two-sample z-test over 40 seeds against one call for all; the IWAE bound mixes *all* K samples of an example."""
    problem = linear_gaussian()
    whole = repeated(problem, batch, 12)
    monkeypatch.setattr(elbo, "ROWS", rows)
    chunked = [evaluate_elbo(problem, batch, 12, seed)[:3] for seed in range(1000, 1000 + SEEDS)]
    mean = np.mean(chunked, axis=0)
    error = np.std(chunked, axis=0, ddof=1) / math.sqrt(SEEDS)
    assert (np.abs(mean - whole[0]) < t_allowed(9) * np.hypot(error, whole[1])).all()


def test_an_example_without_noise_is_the_same_in_any_chunk(monkeypatch, linear_gaussian, batch):
    problem = linear_gaussian(slope=0.5, offset=0.0, log_scale=-0.5 * math.log(2))
    expected = float(problem.log_marginal(batch).mean())
    monkeypatch.setattr(elbo, "ROWS", 4)
    assert evaluate_elbo(problem, batch, 10, seed=0).iwae == pytest.approx(expected, rel=1e-12)


def test_the_draws_depend_on_the_seed_alone_and_nothing_is_disturbed(linear_gaussian, batch):
    problem = linear_gaussian()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first = evaluate_elbo(problem, batch, 5, seed=6)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    assert evaluate_elbo(problem, batch, 5, seed=6) == first
    assert evaluate_elbo(problem, batch, 5, seed=7) != first
    assert all(weight.grad is None for weight in problem.parameters())
    # It ran in inference mode; what it leaves behind must still be trainable.
    problem(batch).kl().sum().backward()


def test_the_elbo_is_its_reconstruction_less_its_kl(linear_gaussian, batch):
    """The KL has no noise; a z-test over 40 seeds holds the reconstruction to E_q[log p(x|z)] in closed form."""
    problem = linear_gaussian()
    found = evaluate_elbo(problem, batch, 3, seed=0)
    expected = float(problem(batch).kl().mean().detach())
    assert found.kl == pytest.approx(expected, rel=1e-12)
    assert found.reconstruction - found.kl == pytest.approx(found.elbo, rel=1e-12)
    mean, error = repeated(problem, batch, 50)
    assert abs(mean[2] - float(problem.elbo(batch).mean()) - expected) < t_allowed(1) * error[2]


def test_a_sampled_kl_is_split_as_well(linear_gaussian, batch):
    problem, x = tiny_vae("sampled")
    sampled = evaluate_elbo(problem, x, 20, seed=1)
    analytic = evaluate_elbo(tiny_vae("analytic")[0], x, 20, seed=1)
    assert sampled == analytic  # the bounds take the KL in closed form whichever KL training uses


@pytest.mark.parametrize("samples", [2, 3])
def test_a_problem_of_the_multi_sample_bound_is_measured_by_its_own_bound(samples):
    """z-test over 40 seeds against L_K as a sum over all K-tuples of the values of two bits."""
    torch.manual_seed(3)
    label = f"vae[dataset=digits,latents=bernoulli,latent_size=2,hidden=[],importance_samples={samples}]"
    problem = problems.create(label).double()
    with torch.no_grad():
        for weight in problem.parameters():
            weight.mul_(6)
    x = torch.from_numpy(problem.data.test[:5]).double().round()
    exact = float(problem(x).exact().mean().detach())
    found = np.array([evaluate_elbo(problem, x, 4, seed, own_bound=True).iwae for seed in range(SEEDS)])
    error = found.std(ddof=1) / math.sqrt(SEEDS)
    assert abs(found.mean() - exact) < t_allowed(1) * error
    # With all draws in one bound it is higher, beyond doubt, and an ELBO has no bound of its own.
    whole = np.array([evaluate_elbo(problem, x, 12, seed).iwae for seed in range(SEEDS)])
    assert whole.mean() - exact > t_allowed(1) * math.hypot(error, whole.std(ddof=1) / math.sqrt(SEEDS))
    tiny, of_tiny = tiny_vae()
    assert evaluate_elbo(tiny, of_tiny, 5, 0, own_bound=True) == evaluate_elbo(tiny, of_tiny, 5, 0)


@pytest.mark.parametrize(
    ("means", "active"),
    [
        ([[0.0, 0.0], [0.3, 0.0]], 1),  # variances of 0.0225 and 0
        ([[0.0, 1.0], [0.19, 1.0]], 0),  # 0.009 is too little, and a constant carries nothing
        ([[5.0, -1.0], [-5.0, 1.0]], 2),
        ([[1.0, 2.0]], 0),  # one example
        ([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]], 1),  # categories: two units, and one varies
    ],
)
def test_a_unit_is_active_if_its_posterior_mean_varies(means, active):
    rows = [torch.tensor([row]) for row in means]
    assert elbo._active_units(rows) == active
    assert elbo._active_units([*rows, None]) is None
