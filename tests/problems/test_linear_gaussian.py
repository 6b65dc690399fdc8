"""The linear-Gaussian model: posterior, evidence and bound against linear algebra and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from estbench import estimators, problems
from estbench.errors import EstbenchError


def model(options="dimensions=3,perturbation=0.3", seed=1):
    torch.manual_seed(seed)
    return problems.create(f"linear_gaussian[{options}]").double()


def observations(problem, count=4):
    return torch.from_numpy(problem.data.train[:count]).double()


def test_posterior_and_evidence_are_those_of_the_joint_normal():
    """(z, x) is normal with mean (mu, mu) and covariance ((I, I), (I, 2I)): condition and marginalise it."""
    problem = model()
    x, mu, identity = observations(problem), problem.mu.detach(), torch.eye(3, dtype=torch.float64)
    marginal = MultivariateNormal(mu, 2 * identity)
    torch.testing.assert_close(problem.log_evidence(x).detach(), marginal.log_prob(x), rtol=1e-12, atol=1e-12)
    gain = identity @ torch.linalg.inv(2 * identity)
    posterior = MultivariateNormal(mu + (x - mu) @ gain.T, identity - gain @ identity)
    found = problem.family.family(problem.posterior(x))
    torch.testing.assert_close(found.mean.detach(), posterior.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.variance.detach(), posterior.variance, rtol=1e-12, atol=1e-12)


def test_the_exact_elbo_and_its_gradients_are_the_mean_of_log_weights():
    """By Gauss-Hermite quadrature in one dimension: log w is a quadratic, so five nodes are exact."""
    problem = model("dimensions=1,perturbation=0.3")
    x = observations(problem)
    nodes, masses = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(5))
    objective = problem(x)
    z = objective.params["loc"] + objective.params["log_scale"].exp() * nodes.view(-1, 1, 1)
    elbo = torch.einsum("s,sb->b", masses / masses.sum(), objective.log_weight(z))
    torch.testing.assert_close(objective.exact(), elbo, rtol=1e-12, atol=1e-12)
    weights = list(problem.parameters())
    pairs = (torch.autograd.grad(value.sum(), weights, retain_graph=True) for value in (objective.exact(), elbo))
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)


def test_f_carries_the_sampled_kl():
    problem = model()
    objective = problem(observations(problem))
    z = objective.q.sample((5,))
    assert torch.equal(objective.f(z), objective.log_weight(z))
    assert objective.kl().eq(0).all()


def test_the_documented_optimum_has_no_gradient():
    """At mu = mean(x), A = I / 2, b = mu / 2, over all training points."""
    problem = model("dimensions=4,perturbation=0.0")
    x = torch.from_numpy(problem.data.train).double()
    problem.mu.data.copy_(x.mean(0))
    problem.encoder.bias.data.copy_(x.mean(0) / 2)
    objective = problem(x)
    for gradient in torch.autograd.grad(objective.exact().mean(), list(problem.parameters())):
        assert float(gradient.abs().max()) < 1e-12
    gap = problem.log_evidence(x) - objective.exact()
    # KL(N(m, 2/3) || N(m, 1/2)) in each dimension: all that the fixed variance of q leaves open.
    left = 0.5 * (4 / 3 - 1 - math.log(4 / 3))
    torch.testing.assert_close(gap, torch.full_like(gap, 4 * left), rtol=1e-6, atol=1e-12)
    q, posterior = objective.q, problem.family.family(problem.posterior(x))
    torch.testing.assert_close(gap, kl_divergence(q, posterior), rtol=1e-9, atol=1e-9)


def test_weights_start_at_the_optimum_displaced():
    flat = torch.cat([w.detach().flatten() for w in model("dimensions=20,perturbation=0.01").parameters()])
    start = torch.cat([w.detach().flatten() for w in model("dimensions=20,perturbation=0.0").parameters()])
    displacement = (flat - start) / 0.01
    # 440 standard normal numbers: mean square within four standard errors of 1.
    assert abs(float(displacement.square().mean()) - 1) < 4 * math.sqrt(2 / 440)
    other = torch.cat([w.detach().flatten() for w in model("dimensions=20", seed=2).parameters()])
    assert not torch.equal(flat, other)


def test_data_are_of_the_model_and_the_same_for_all():
    first, second = model(seed=1).data, model(seed=2).data
    assert np.array_equal(first.train, second.train)
    assert [len(part) for part in (first.train, first.validation, first.test)] == [1024, 256, 256]
    # Variance 2: within four standard errors.
    assert abs(first.train.var(0).mean() - 2) < 4 * 2 * math.sqrt(2 / (1024 * 3))


def test_the_bound_rises_towards_the_evidence_with_k():
    """z-scores of paired differences: L_1 < L_4 < L_16 < log p(x), by more than four standard errors each."""
    problem = model()
    x = observations(problem, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        objective = problem(x)
        log_weights = objective.log_weight(objective.q.sample((16 * 20_000,))).view(16, -1)
        bounds = [log_weights[:k].logsumexp(0) - math.log(k) for k in (1, 4, 16)]
        for low, high in zip(bounds, [*bounds[1:], problem.log_evidence(x)], strict=True):
            difference = high - low
            assert float(difference.mean()) > 4 * float(difference.std()) / math.sqrt(difference.numel())


def test_importance_samples_choose_the_bound():
    problem = model("dimensions=3,importance_samples=4")
    assert problem.bound_of(problem.options) == "multi-sample"
    objective = problem(observations(problem))
    assert objective.importance_samples == 4
    assert estimators.create("dreg")(objective).shape == (4,)
    with pytest.raises(EstbenchError, match="no exact value"):
        objective.exact()
