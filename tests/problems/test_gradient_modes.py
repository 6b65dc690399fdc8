"""A look at the objective while gradients are off leaves every later gradient as it is, bit for bit."""

from __future__ import annotations

import pytest
import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.estimators.requirements import families
from estbench.problems.priors import LearnedPrior
from estbench.problems.two_layers import TwoLayerObjective

FAMILIES = ("normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet", "student-t", "poisson", "weibull")
VARIANTS = [
    *(
        f"vae[dataset=digits,latents={latents},latent_size=2,hidden=[4],prior={prior},kl={kl}"
        + (",categories=3]" if latents in {"categorical", "dirichlet"} else "]")
        for latents in FAMILIES
        for prior in ("learned", "fixed")
        for kl in ("analytic", "sampled")
        if (latents, kl) != ("student-t", "sampled")
    ),
    "vae[dataset=digits,latent_size=2,hidden=[4],prior=learned,importance_samples=3]",
    "hierarchical_vae[dataset=digits,latent_size=2,hidden=[4],prior=learned]",
    "linear_gaussian[dimensions=2]",
    "linear_gaussian[dimensions=2,importance_samples=2]",
    "logistic_regression",
    "gaussian_toy",
    "bernoulli_toy[bits=3]",
    "sbn_tiny[latent_size=2]",
    "sbn_tiny[latents=categorical,latent_size=2,kl=sampled]",
]
# What may be asked of an objective at samples z.
MEMBERS = {
    "f": lambda objective, z: objective.f(z),
    "f at a frozen q": lambda objective, z: objective.f(z, objective.frozen_q()),
    "log_weight": lambda objective, z: objective.log_weight(z),
    "kl": lambda objective, z: objective.kl(),
    "log q": lambda objective, z: objective.q.log_prob(z),
    "log p": lambda objective, z: objective.prior.log_prob(z),
    "entropy": lambda objective, z: objective.q.entropy(),
    "mean": lambda objective, z: objective.q.mean,
    "probs": lambda objective, z: getattr(objective.q, "base_dist", objective.q).probs,
    "exact": lambda objective, z: objective.exact(),
}


def build(variant):
    torch.manual_seed(0)
    problem = problems.create(variant).double()
    if isinstance(getattr(problem, "prior", None), LearnedPrior):
        torch.nn.init.normal_(problem.prior.outputs, std=0.3)
    problem.x = problem.observe(torch.from_numpy(problem.data.train[:3]), torch.Generator().manual_seed(1)).double()
    return problem


def objective_of(problem):
    objective = problem(problem.x)
    if isinstance(objective, TwoLayerObjective):
        objective = objective.estimated_by(estimators.create("disarm"))
    return objective


def gradients(problem, objective, member, z):
    """With respect to every weight; the member's name where the objective does not have it."""
    torch.manual_seed(3)
    try:
        value = MEMBERS[member](objective, z)
    except (EstbenchError, AttributeError, NotImplementedError):
        return None
    if not value.requires_grad:
        return []
    return torch.autograd.grad(value.sum(), list(problem.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize(
    ("variant", "mode"),
    [
        pytest.param(variant, mode, marks=[pytest.mark.slow] * (mode is torch.inference_mode and "fixed" in variant))
        for variant in VARIANTS
        for mode in (torch.no_grad, torch.inference_mode)
    ],
)
def test_a_look_without_gradients_changes_no_later_gradient(variant, mode):
    problem = build(variant)
    torch.manual_seed(2)
    z = objective_of(problem).q.sample((2,))
    compared = 0
    for member in MEMBERS:
        untouched, looked_at = objective_of(problem), objective_of(problem)
        noise = torch.rand(untouched.batch_shape + untouched.q.event_shape[:1], dtype=torch.float64)
        for objective in (untouched, looked_at):
            if hasattr(objective, "_noise"):
                objective._noise = noise
        with mode():
            for look in MEMBERS.values():
                try:
                    look(looked_at, z)
                except (EstbenchError, AttributeError, NotImplementedError):
                    continue
        expected, found = (gradients(problem, objective, member, z) for objective in (untouched, looked_at))
        if expected is None:
            assert found is None
            continue
        assert len(expected) == len(found)
        assert all(map(torch.equal, expected, found)), member
        compared += len(expected)
    assert compared


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_prior_first_seen_without_gradients_has_the_exact_gradient(mode):
    """d/d log s of log N(z; m, s) is ((z - m) / s)^2 - 1."""
    problem = build("vae[dataset=digits,latent_size=2,hidden=[4],prior=learned,kl=sampled]")
    objective = problem(problem.x)
    z = objective.q.sample((5,))
    with mode():
        objective.f(z)
    (gradient,) = torch.autograd.grad(objective.f(z).sum(), problem.prior.outputs)
    loc, log_scale = problem.prior.outputs.detach().chunk(2)
    scaled = (z - loc) / log_scale.exp()
    expected = torch.cat([(scaled / log_scale.exp()).sum((0, 1)), (scaled.square() - 1).sum((0, 1))])
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def served(latents):
    """Every estimator that is for such latents, by the objective that it is for."""
    for name in estimators.names():
        cls = estimators.ESTIMATORS.get(name)
        if latents in families(cls.supports) and name != "detached":
            yield name, "elbo" if "elbo" in cls.bounds else "multi-sample"


@pytest.mark.parametrize(
    ("latents", "name", "bound"), [(latents, *each) for latents in FAMILIES for each in served(latents)]
)
def test_every_estimator_moves_all_of_a_learned_prior(latents, name, bound):
    options = "importance_samples=2" if bound == "multi-sample" else "kl=sampled" if latents != "student-t" else ""
    categories = ",categories=3" if latents in {"categorical", "dirichlet"} else ""
    problem = build(
        f"vae[dataset=digits,latents={latents},latent_size=2,hidden=[4],prior=learned{categories},{options}]".replace(
            ",]", "]"
        )
    )
    estimator = estimators.create(name).double()
    with torch.no_grad():
        estimator.prepare(problem(problem.x))
    estimator.double()
    optimizer = torch.optim.SGD(problem.parameters(), lr=1e-3, maximize=True)
    before = problem.prior.outputs.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        estimator(problem(problem.x)).mean().backward()
        optimizer.step()
    assert bool((problem.prior.outputs != before).all())
