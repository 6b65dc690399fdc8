"""The Bernoulli toy's expectation by enumeration, and its variances from the definitions and the known table."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.latents import states
from estbench.problems.bernoulli_toy import variance

PLACES = list(itertools.product((0.1, 0.3, 0.5, 0.8), (0.45, 0.499), (1.5, 2.0, 3.0)))


def toy(theta, target, power=2.0, bits=1):
    problem = problems.create(f"bernoulli_toy[target={target},power={power},bits={bits}]").double()
    # Set in double precision: as an option it would start as a single-precision number.
    problem.logits.data.fill_(math.log(theta / (1 - theta)))
    return problem


@pytest.mark.parametrize(("theta", "target", "power"), PLACES)
def test_the_exact_value_and_gradient_are_those_of_the_sum_over_all_bits(theta, target, power):
    problem = toy(theta, target, power, bits=3)
    x = torch.zeros(2, 1)
    logits = problem.encode(x)["logits"].detach().clone().requires_grad_()
    objective = problem.objective({"logits": logits}, x)
    z = states(objective.q)[:, None].expand(-1, 2, -1)
    enumerated = (objective.q.log_prob(z).exp() * objective.f(z)).sum(0)
    torch.testing.assert_close(objective.exact(), enumerated, rtol=1e-12, atol=1e-12)
    found, expected = (torch.autograd.grad(value.sum(), logits)[0] for value in (objective.exact(), enumerated))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    known = theta * (1 - theta) * (target**power - (1 - target) ** power)
    torch.testing.assert_close(found, torch.full_like(found, known), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("theta", "target", "power"), PLACES)
def test_the_variances_are_those_of_the_estimates_definitions(theta, target, power):
    f = [target**power, (1 - target) ** power]
    p = [1 - theta, theta]
    true = theta * (1 - theta) * (f[1] - f[0])
    reinforce = sum(p[b] * (f[b] * (b - theta)) ** 2 for b in (0, 1)) - true**2
    pairs = itertools.product((0, 1), repeat=2)
    rloo = sum(p[a] * p[b] * ((f[a] - f[b]) * (a - b) / 2) ** 2 for a, b in pairs) - true**2

    def arm(u):
        return (f[int(u > 1 - theta)] - f[int(u < theta)]) * (u - 0.5)

    def disarm(u):
        one, two = int(u > 1 - theta), int(u < theta)
        return 0.5 * (f[one] - f[two]) * (-1) ** two * (one != two) * max(theta, 1 - theta)

    def over_u(function):
        edges = sorted({0.0, theta, 1 - theta, 1.0})
        return sum(integrate.quad(function, low, high, epsabs=1e-14)[0] for low, high in itertools.pairwise(edges))

    assert over_u(arm) == pytest.approx(true, abs=1e-12)
    assert over_u(disarm) == pytest.approx(true, abs=1e-12)
    known = {
        "reinforce": reinforce,
        "rloo": rloo,
        "arm": over_u(lambda u: arm(u) ** 2) - true**2,
        "disarm": over_u(lambda u: disarm(u) ** 2) - true**2,
    }
    for estimator, expected in known.items():
        assert variance(estimator, theta, target, power) == pytest.approx(expected, rel=1e-8, abs=1e-13)


@pytest.mark.parametrize(
    ("theta", "target", "known"),
    [
        (0.5, 0.45, (0.01594, 0.000625, 0.0002083, 0)),
        (0.5, 0.499, (0.01563, 2.5e-07, 8.333e-08, 0)),
        (0.1, 0.45, (0.0077, 0.000369, 0.0003257, 0.000324)),
        (0.8, 0.45, (0.007921, 0.000544, 0.0003973, 0.000384)),
        (0.9, 0.49, (0.005275, 1.476e-05, 1.303e-05, 1.296e-05)),
    ],
)
def test_the_known_table(theta, target, known):
    found = [variance(estimator, theta, target) for estimator in ("reinforce", "rloo", "arm", "disarm")]
    assert found == pytest.approx(known, rel=1e-3)


def test_disarm_is_never_worse_than_arm_or_rloo_on_one_bit():
    for theta in np.linspace(0.001, 0.999, 999):
        arm, rloo, disarm = (variance(estimator, theta, 0.45) for estimator in ("arm", "rloo", "disarm"))
        assert disarm <= min(arm, rloo) * (1 + 1e-9)


def test_registered_estimators_have_these_variances():
    for variant, samples in (("reinforce", 1), ("rloo", 2)):
        problem = toy(0.8, 0.45)
        tuples = torch.tensor(list(itertools.product([0.0, 1.0], repeat=samples))).double().T[..., None, None]
        logits = problem.logits.detach().expand(tuples.shape[1], 1, 1).clone().requires_grad_()
        objective = problem.objective({"logits": logits}, torch.zeros(1, 1))
        objective.q.sample = lambda _, tuples=tuples: tuples
        (found,) = torch.autograd.grad(estimators.create(variant)(objective).sum(), [logits])
        mass = objective.q.log_prob(tuples).sum(0).exp().detach().flatten()
        mean = mass @ found.flatten()
        spread = float(mass @ (found.flatten() - mean).square())
        assert spread == pytest.approx(variance(variant, 0.8, 0.45), rel=1e-9)


def test_there_is_no_model_so_log_weight_is_the_integrand():
    problem = toy(0.3, 0.45, bits=4)
    x = torch.zeros(2, 1)
    logits = problem.encode(x)["logits"].detach().clone().requires_grad_()
    objective = problem.objective({"logits": logits}, x)
    z = objective.q.sample((5,))
    torch.testing.assert_close(objective.log_weight(z), objective.f(z), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(objective.kl().sum(), [logits])
    assert float(gradient.abs().max()) < 1e-15


def test_relaxed_bits_have_a_cost_with_a_derivative():
    problem = toy(0.3, 0.45, power=3.0, bits=2)
    z = torch.tensor([[[0.2, 0.9]]]).double().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.cost(z).sum(), [z])
    torch.testing.assert_close(gradient, 3 * (z - 0.45).square() * (z - 0.45).sign(), rtol=1e-12, atol=1e-12)


def test_theta_is_where_every_bit_starts():
    for theta in (0.1, 0.5):
        logits = problems.create(f"bernoulli_toy[theta={theta},bits=3]").logits
        torch.testing.assert_close(logits.detach().sigmoid(), torch.full((3,), theta))


@pytest.mark.parametrize(
    ("options", "said"), [("theta=1", "theta"), ("target=2", "target"), ("power=0.5", "power"), ("bits=0", "bits")]
)
def test_a_wrong_option_is_an_error_that_names_it(options, said):
    with pytest.raises(EstbenchError, match=said):
        problems.create(f"bernoulli_toy[{options}]")
