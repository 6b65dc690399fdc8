"""Binary Concrete: the exact gradient of the relaxed objective, which is known for one bit."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.discrete_objectives import legendre, moments, objective_of

from estbench import estimators
from estbench.estimators import _noise
from estbench.latents import BernoulliLatents
from estbench.problems import Objective

PHI = -0.8


def mean_gradient(variant, f, prior_logit=None, kl=None, *, monkeypatch):
    """By quadrature over the uniform noise of one bit; and the mean value of the surrogate."""
    u, weights = legendre([0.0, 0.001, 0.05, 0.5, 0.95, 0.999, 1.0], 60)
    monkeypatch.setattr(_noise, "open_uniform", u[:, None, None].expand_as)
    logits = torch.full((len(u), 1, 1), PHI, dtype=torch.float64, requires_grad=True)
    if prior_logit is None:
        objective = objective_of(logits, f)
    else:
        latents = BernoulliLatents(1)
        prior = {"logits": torch.full((1,), prior_logit, dtype=torch.float64)}
        analytic = (lambda: latents.kl({"logits": logits}, prior)) if kl == "analytic" else None
        objective = Objective({"logits": logits}, latents.family, f, lambda: latents.family(prior), kl=analytic)
    surrogate = estimators.create(variant)(objective)
    (gradients,) = torch.autograd.grad(surrogate.sum(), [logits])
    return float(moments(gradients, weights)[0]), float((weights * surrogate.detach()[:, 0]).sum())


def test_the_gradient_of_a_linear_f_is_that_of_the_relaxed_mean(monkeypatch):
    """At temperature 1, E[sigmoid(phi + l)] = e (e - 1 - phi) / (e - 1)^2 with e = exp(phi)."""
    phi = torch.tensor(PHI, dtype=torch.float64, requires_grad=True)
    e = phi.exp()
    expected = e * (e - 1 - phi) / (e - 1).square()
    expected.backward()
    slope, value = mean_gradient("concrete[temperature=1.0]", lambda z: z.sum(-1), monkeypatch=monkeypatch)
    assert value == pytest.approx(expected.item(), rel=1e-9)
    assert slope == pytest.approx(float(phi.grad), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_relaxed_kl_is_that_of_two_logistics(temperature, kl, monkeypatch):
    """d coth(d / 2) - 2 for a distance d of their locations, whatever the temperature and the problem's own KL."""
    distance = PHI - 0.6
    slope, value = mean_gradient(
        f"concrete[temperature={temperature},kl=concrete]",
        lambda z: 0 * z.sum(-1),
        prior_logit=0.6,
        kl=kl,
        monkeypatch=monkeypatch,
    )
    half = distance / 2
    assert value == pytest.approx(-(distance / math.tanh(half) - 2), rel=1e-6)
    assert slope == pytest.approx(-(1 / math.tanh(half) - half / math.sinh(half) ** 2), rel=1e-6)


def test_the_kl_of_the_bits_is_the_problem_s_own(monkeypatch):
    """With kl=bernoulli and f = 0, the surrogate is less the KL of two coins, and has its gradient."""
    phi, prior = torch.tensor([PHI], dtype=torch.float64, requires_grad=True), torch.tensor([0.6]).double()
    kl = BernoulliLatents(1).kl({"logits": phi}, {"logits": prior})
    kl.backward()
    slope, value = mean_gradient(
        "concrete", lambda z: 0 * z.sum(-1), prior_logit=0.6, kl="analytic", monkeypatch=monkeypatch
    )
    assert value == pytest.approx(-kl.item(), rel=1e-6)
    assert slope == pytest.approx(-float(phi.grad), rel=1e-6)
