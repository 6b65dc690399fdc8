"""REBAR and RELAX: exact in the mean, by quadrature over both noises of one coin; and they learn to be less noisy."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import BITS, ONE_HOT, legendre, moments, objective_of, prepared, probability, square

from estbench import estimators
from estbench.certify import run_bias_tests
from estbench.errors import EstbenchError
from estbench.estimators import _noise

# The example whose answer without the gradient of v' is known: theta = sigmoid(-0.8), t = 0.45, lambda = 0.5.
THETA = float(torch.tensor(-0.8, dtype=torch.float64).sigmoid())
TARGET = 0.45


def coin(estimator, theta, monkeypatch, nodes=40):
    """Mean and variance of the gradient on one coin: smooth in u on both sides of 1 - theta, and in v."""
    u, u_weights = legendre([0.0, 1 - theta, 1.0], nodes)
    v, v_weights = legendre([0.0, 1.0], nodes)
    noise = iter([grid.flatten()[:, None, None] for grid in torch.meshgrid(u, v, indexing="ij")])
    weights = torch.outer(u_weights, v_weights).flatten()
    with monkeypatch.context() as patch:
        patch.setattr(_noise, "open_uniform", lambda _: next(noise))
        logits = probability(theta).expand(len(weights), 1, 1).clone().requires_grad_()
        (gradients,) = torch.autograd.grad(estimator(objective_of(logits, square(TARGET))).sum(), [logits])
    return [float(moment) for moment in moments(gradients, weights)]


@pytest.mark.parametrize("theta", [0.1, THETA, 0.5, 0.9])
@pytest.mark.parametrize(("temperature", "scale"), [(0.5, 0.0), (0.5, 0.4), (0.25, -0.7)])
def test_the_mean_over_both_noises_is_the_exact_gradient(theta, temperature, scale, monkeypatch):
    estimator = estimators.create(f"rebar[temperature={temperature}]").eval()
    estimator.log_scale.data.fill_(scale)
    mean, _ = coin(estimator, theta, monkeypatch)
    assert mean == pytest.approx(theta * (1 - theta) * (1 - 2 * TARGET), rel=1e-9)


def test_a_noise_without_its_slope_is_biased_and_the_z_test_sees_it(monkeypatch):
    """.01485 in place of .02139, and caught on every problem of bits."""
    estimator = estimators.create("rebar").eval()
    right, _ = coin(estimator, THETA, monkeypatch)
    assert all(test.unbiased for problem in BITS for test in run_bias_tests(estimator, problem, 100))
    given = _noise.logistic_perturbed_given_bit

    def without_gradient(logits, bits):
        """The second noise with v' held fixed."""
        return logits + (given(logits, bits) - logits).detach()

    with monkeypatch.context() as patch:
        patch.setattr(_noise, "logistic_perturbed_given_bit", without_gradient)
        wrong, _ = coin(estimator, THETA, monkeypatch)
        found = [test for problem in BITS for test in run_bias_tests(estimator, problem, 100) if test.group == "logits"]
    assert right == pytest.approx(0.02139, rel=5e-4)
    assert wrong == pytest.approx(0.01485, rel=5e-4)
    assert not any(test.unbiased for test in found)
    assert all(test.bias > 0.02 for test in found)


def test_the_decoder_learns_from_the_hard_sample_alone():
    """log p(x|b) at the corner, with none of what the relaxed samples would give."""
    problem = BITS[-1]
    leaves = problem.leaf_tensors()
    objective = problem.objective(leaves)
    estimator = prepared("relax", objective)
    seen = []
    inner = objective._log_likelihood
    objective._log_likelihood = lambda z: seen.append(z.detach()) or inner(z)
    for training in (True, False):
        (found,) = torch.autograd.grad(estimator.train(training)(objective).sum(), [leaves["weights"]])
        (hard,) = [z for z in seen if len(z) == 1]
        assert ((hard == 0) | (hard == 1)).all()
        (expected,) = torch.autograd.grad(inner(hard).sum(), [leaves["weights"]])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
        seen.clear()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("problem", [BITS[0], ONE_HOT[0]], ids=["bernoulli", "categorical"])
@pytest.mark.parametrize("variant", ["rebar", "relax[hidden=8]"])
def test_learning_lowers_the_variance_and_leaves_the_mean_where_it_is(variant, problem):
    """200 steps of the estimator's own optimiser, for fixed variational parameters."""
    estimator = prepared(variant, problem.objective(problem.leaf_tensors()))
    before = gradient_variance(estimator, problem)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02, maximize=True)
    estimator.train()
    torch.manual_seed(1)
    for _ in range(200):
        optimizer.zero_grad()
        estimator(problem.objective(problem.leaf_tensors(50))).mean().backward()
        optimizer.step()
    estimator.eval()
    assert gradient_variance(estimator, problem) < 0.9 * before
    tests = run_bias_tests(estimator, problem, 100)
    assert all(test.unbiased for test in tests), tests


def gradient_variance(estimator, problem, replicates=20_000):
    """Trace of the covariance; of 20,000 draws, so to a per cent or two."""
    leaves = problem.leaf_tensors(replicates)
    torch.manual_seed(0)
    (found,) = torch.autograd.grad(estimator(problem.objective(leaves)).sum(), [leaves["logits"]])
    return float(found.var(0).sum())


def test_relax_without_its_network_is_rebar(monkeypatch):
    theta = 0.3
    relax = prepared("relax", objective_of(probability(theta), square(TARGET)))
    for weight in relax.network.parameters():
        weight.data.zero_()
    rebar = estimators.create("rebar").eval()
    assert coin(relax, theta, monkeypatch) == coin(rebar, theta, monkeypatch)


def test_the_network_sees_the_input_where_there_is_one():
    logits, context = torch.zeros(4, 3), torch.zeros(4, 7)
    relax = estimators.create("relax[hidden=5]")
    relax.prepare(objective_of(logits, square(TARGET)))
    assert relax.network[0].in_features == 3
    relax.prepare(objective_of(logits, square(TARGET), context=context))
    assert relax.network[0].in_features == 10


def test_relax_before_it_is_prepared_says_what_to_do():
    with pytest.raises(EstbenchError, match=r"relax has no network yet; call estimator.prepare"):
        estimators.create("relax")(objective_of(probability(0.5), square(TARGET)))
