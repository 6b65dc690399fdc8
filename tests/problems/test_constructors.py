"""Objectives for a loop of one's own: the same as those that are built by hand, and refusals in words."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from estbench import EstbenchError, estimators
from estbench.latents import FAMILY_NAMES, make_latents
from estbench.problems import Objective, family_objective, joint_objective

DOUBLE = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).requires_grad_()


def split(family, lead=(4,)):
    latents = make_latents(family, 2, 3)
    return latents, latents.split(0.3 * drawn(*lead, latents.outputs))


@pytest.mark.parametrize("lead", [(4,), (3, 4)])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_latents_of_a_family_have_the_objective_that_one_builds_by_hand(family, lead):
    latents, params = split(family, lead)
    made = family_objective(family, params, lambda z: latents.flat(z).sum(-1))
    standard = {name: torch.zeros_like(value[(0,) * len(lead)]) for name, value in params.items()}
    by_hand = Objective(
        params,
        latents.family,
        lambda z: latents.flat(z).sum(-1),
        lambda: latents.family(standard),
        kl=(lambda: latents.kl(params, standard)) if latents.closed_form_kl else None,
    )
    z = made.q.sample((5,))
    for first, second in ((made, by_hand),):
        assert first.batch_shape == second.batch_shape == lead
        assert torch.equal(first.f(z), second.f(z))
        assert torch.equal(first.kl(), second.kl())
        assert torch.equal(first.log_weight(z), second.log_weight(z))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_kl_in_closed_form_is_the_mean_log_ratio(family, largest_z):
    latents, params = split(family)
    prior = {name: 0.2 * drawn(*value.shape[1:], seed=1).detach() for name, value in params.items()}
    torch.manual_seed(3)
    objective = family_objective(family, params, lambda z: 0 * latents.flat(z).sum(-1), prior=prior)
    with torch.no_grad():
        ratio = -objective.log_weight(objective.q.sample((40_000,)))
        z = (ratio.mean(0) - objective.kl()) / ratio.std(0) * math.sqrt(40_000)
    if latents.closed_form_kl:
        assert z.abs().max() < largest_z(len(z) * len(FAMILY_NAMES))
    else:
        assert objective.kl().eq(0).all()


QS = {
    "normal": lambda: Independent(Normal(drawn(3, 2), drawn(3, 2, seed=1).exp()), 1),
    "bits": lambda: Independent(Bernoulli(logits=drawn(3, 2)), 1),
    "probabilities": lambda: Independent(Bernoulli(probs=drawn(3, 2).sigmoid()), 1),
    "one-hot": lambda: Independent(OneHotCategorical(logits=drawn(3, 2, 4)), 1),
    "full": lambda: MultivariateNormal(drawn(3, 2), scale_tril=(0.2 * drawn(3, 2, 2, seed=1)).tril(-1) + torch.eye(2)),
    "covariance": lambda: MultivariateNormal(
        drawn(3, 2), covariance_matrix=torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=DOUBLE)
    ),
}


@pytest.mark.parametrize("name", QS)
def test_a_distribution_of_torch_is_taken_as_it_is(name):
    q = QS[name]()
    objective = joint_objective(lambda z: z.flatten(2).sum(-1), q)
    z = q.sample((7,))
    assert torch.allclose(objective.q.log_prob(z), q.log_prob(z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(objective.f(z), z.flatten(2).sum(-1) - q.log_prob(z), rtol=1e-9, atol=1e-9)
    assert objective.kl().eq(0).all()


@pytest.mark.parametrize("name", ["normal", "full", "covariance"])
def test_gradients_reach_the_parameters_of_the_distribution(name):
    leaf = drawn(3, 2, seed=4)
    q = QS[name]()
    moved = (
        Independent(Normal(leaf, q.base_dist.scale), 1)
        if name == "normal"
        else MultivariateNormal(leaf, scale_tril=q.scale_tril)
    )
    objective = joint_objective(lambda z: -0.5 * z.square().sum(-1), moved)
    (gradient,) = torch.autograd.grad(estimators.create("reparam")(objective).sum(), leaf)
    assert gradient.isfinite().all()
    assert gradient.ne(0).all()


def test_any_other_distribution_is_a_function_of_its_parameters():
    params = {"loc": drawn(3, 2), "log_scale": drawn(3, 2, seed=1)}
    build = lambda each: Independent(Laplace(each["loc"], each["log_scale"].exp()), 1)  # noqa: E731
    for name in ("stl", "reparam", "rloo"):
        objective = joint_objective(lambda z: -z.abs().sum(-1), build, params)
        estimators.create(name)(objective).sum().backward()
    with pytest.raises(EstbenchError, match="requires bernoulli latents"):
        estimators.create("disarm")(objective)


def test_a_multi_sample_bound_of_a_log_joint():
    objective = joint_objective(lambda z: -0.5 * z.square().sum(-1), QS["normal"](), importance_samples=3)
    assert estimators.create("dreg")(objective).shape == (3,)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: family_objective("gaussian", {}, len), "no family of latents 'gaussian'; take one of normal, "),
        (
            lambda: family_objective("normal", {"loc": drawn(3, 2)}, len),
            "normal latents have the parameters loc and log_scale, and those of q are loc",
        ),
        (
            lambda: family_objective("bernoulli", {"logits": drawn(3, 2)}, len, prior={"probs": drawn(2)}),
            "those of the prior are probs",
        ),
        (lambda: joint_objective(len, Normal(drawn(3), torch.ones(3))), "make the last dimension one of the event by"),
        (
            lambda: joint_objective(len, LowRankMultivariateNormal(torch.zeros(3), torch.ones(3, 1), torch.ones(3))),
            "the parameters of a LowRankMultivariateNormal .* are not known here",
        ),
        (lambda: joint_objective(len, lambda params: params), "q is a function; give its parameters by name"),
        (
            lambda: estimators.create("concrete[kl=concrete]")(joint_objective(lambda z: z.sum(-1), QS["bits"]())),
            "the prior, which is part of the log joint",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused_in_words(build, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        build()
