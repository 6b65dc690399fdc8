"""The bounds are those of the model: whichever KL training uses, with any weight, and at the edge of the support."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Beta, Gamma, Independent, MixtureSameFamily, Normal, kl_divergence

from estbench import problems
from estbench.latents import BetaLatents, DirichletLatents, GammaLatents, log_densities
from estbench.measure import evaluate_elbo
from estbench.problems import Objective, Problem

FALSE_ALARM = 1e-4  # of each test, over all its scores
DRAWS = 200_000


class NoDecoder(Problem):
    """log p(x|z) = 0: the ELBO is -KL(q || p), and log p(x) is 0."""

    name = "no-decoder"

    def __init__(self, latents, outputs, **objective):
        super().__init__()
        self.family, self.further = latents, objective
        self.outputs = nn.Parameter(outputs)

    def encode(self, x):
        return self.family.split(self.outputs.expand(len(x), -1))

    def objective(self, params, x):
        return Objective(
            params,
            self.family.family,
            lambda z: z.new_zeros(z.shape[: -len(self.family.family(params).event_shape)]),
            lambda: self.family.family({name: torch.zeros_like(value) for name, value in params.items()}),
            x,
            **self.further,
        )


LATENTS = {"gamma": GammaLatents(1), "beta": BetaLatents(1), "dirichlet": DirichletLatents(1, 3)}


def concentrations(name, value):
    """Outputs of an encoder, (E,): all concentrations at ``value``, the rate of a gamma at one."""
    outputs = torch.full((LATENTS[name].outputs,), math.log(value))
    if name == "gamma":
        outputs[1] = 0
    return outputs


@pytest.mark.parametrize("value", [0.02, 0.05, 0.3, 3.0])
@pytest.mark.parametrize("name", LATENTS)
def test_samples_rounded_to_the_edge_do_not_overstate_a_bound(name, value):
    """In single precision, where up to 45 % of them are. z-test of the mean log weight against -KL, n = 200,000."""
    latents = LATENTS[name]
    problem = NoDecoder(latents, concentrations(name, value))
    x = torch.zeros(1, 1)
    objective = problem(x)
    torch.manual_seed(0)
    with torch.no_grad():
        terms, log_weights, _ = objective.bound_terms(objective.q.sample((DRAWS,)))
        kl = float(kl_divergence(latents.family(double(problem.encode(x))), latents.family(double(zeros(problem, x)))))
    assert bool(log_weights.isfinite().all())
    assert float(terms.mean()) == pytest.approx(-kl, rel=1e-4, abs=1e-5)
    score = (float(log_weights.double().mean()) + kl) / float(log_weights.double().std()) * math.sqrt(DRAWS)
    assert abs(score) < stats.norm.isf(FALSE_ALARM / 24)
    found = evaluate_elbo(problem, x, 64, seed=1)
    assert found.elbo == pytest.approx(-kl, rel=1e-4, abs=1e-5)
    assert math.isfinite(found.iwae)


def double(params):
    return {name: value.detach().double() for name, value in params.items()}


def zeros(problem, x):
    return {name: torch.zeros_like(value) for name, value in problem.encode(x).items()}


def test_within_the_support_densities_are_torch_s():
    q, p = Beta(torch.tensor(0.2), torch.tensor(3.0)), Beta(torch.tensor(2.0), torch.tensor(1.0))
    inside = torch.tensor([0.25, 0.5])
    log_q, log_p = log_densities(q, p, inside)
    assert torch.equal(log_q, q.log_prob(inside))
    assert torch.equal(log_p, p.log_prob(inside))


@pytest.mark.parametrize("a", [0.05, 0.3])
def test_importance_weights_near_the_edge_have_the_mean_of_the_prior_s_mass(a):
    """E_q[p(z)/q(z) 1(z at the edge)] = P_p(edge), for a prior that is heavier there; z-test, n = 200,000 draws."""
    q, p = Gamma(torch.tensor(a), torch.tensor(1.0)), Gamma(torch.tensor(0.8 * a), torch.tensor(1.0))
    z = torch.full((DRAWS,), torch.finfo(torch.float32).tiny)
    torch.manual_seed(6)
    log_q, log_p = log_densities(q, p, z)
    weight = (log_p - log_q).double().exp() * stats.gamma(a).cdf(float(z[0]))
    score = (float(weight.mean()) - stats.gamma(0.8 * a).cdf(float(z[0]))) / float(weight.std()) * math.sqrt(DRAWS)
    assert abs(score) < stats.norm.isf(FALSE_ALARM / 4)


@pytest.mark.parametrize("latents", ["normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet"])
def test_an_option_of_training_does_not_change_how_a_bound_is_computed(latents):
    size = "latent_size=2,categories=3" if latents in {"categorical", "dirichlet"} else "latent_size=2"
    found = []
    for kl in ("analytic", "sampled"):
        torch.manual_seed(1)
        problem = problems.create(f"vae[dataset=digits,hidden=[4],latents={latents},{size},kl={kl},prior=learned]")
        nn.init.normal_(problem.prior.outputs)
        x = torch.from_numpy(problem.data.train[:5]).round()
        found.append(evaluate_elbo(problem, x, 8, seed=2))
    assert found[0] == found[1]


@pytest.mark.parametrize("further", [{"kl_weight": 4.0}, {"kl_weight": 0.0}, {"kl_weight": torch.tensor(0.3)}])
@pytest.mark.parametrize("analytic", [True, False])
def test_a_weighted_kl_leaves_the_bounds_as_they_are(further, analytic):
    x = torch.zeros(3, 1)
    latents = LATENTS["gamma"]
    found = []
    for options in ({}, further):
        problem = NoDecoder(latents, torch.tensor([0.5, -0.2]), **options)
        if analytic:
            kl = kl_divergence(latents.family(problem.encode(x)), latents.family(zeros(problem, x)))
            problem.further["kl"] = lambda kl=kl: kl
        found.append(evaluate_elbo(problem, x, 16, seed=3))
    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [lambda kl: 4 * kl, lambda kl: kl.clamp(min=3), lambda kl: kl + 5])
def test_a_kl_that_is_none_leaves_the_bounds_as_they_are(wrong):
    x = torch.zeros(3, 1)
    latents = LATENTS["gamma"]
    problem = NoDecoder(latents, torch.tensor([0.5, -0.2]))
    expected = evaluate_elbo(problem, x, 16, seed=3)
    kl = kl_divergence(latents.family(problem.encode(x)), latents.family(zeros(problem, x)))
    problem.further["kl"] = lambda: wrong(kl)
    assert evaluate_elbo(problem, x, 16, seed=3) == expected


def test_the_bound_of_a_mixture_is_sampled():
    """Without a closed form: the ELBO is the mean log weight, and the IWAE bound of one sample is the same number."""

    def mixture(params):
        parts = Independent(Normal(torch.tensor([[-1.0], [1.0]]).expand(2, 2, 1), 0.5), 1)
        return MixtureSameFamily(torch.distributions.Categorical(logits=params["logits"]), parts)

    class Mixed(NoDecoder):
        def encode(self, x):
            return {"logits": self.outputs.expand(len(x), 2)}

        def objective(self, params, x):
            standard = Independent(Normal(torch.zeros(1), 1.0), 1)
            return Objective(params, mixture, lambda z: z.new_zeros(z.shape[:-1]), lambda: standard, x)

    problem = Mixed(None, torch.zeros(2))
    found = evaluate_elbo(problem, torch.zeros(2, 1), 1, seed=4)
    assert found.elbo == found.iwae


def test_a_subclass_does_not_inherit_the_closed_form_of_its_base():
    """Its density is another one: the ELBO is then sampled."""

    class Tilted(Normal):
        def log_prob(self, value):
            return super().log_prob(value) + 1.0

    params = {"loc": torch.zeros(2, 1), "log_scale": torch.zeros(2, 1)}
    objective = Objective(
        params,
        lambda values: Independent(Tilted(values["loc"], values["log_scale"].exp()), 1),
        lambda z: z.new_zeros(z.shape[:-1]),
        lambda: Independent(Normal(torch.zeros(1), 1.0), 1),
    )
    terms, log_weights, _ = objective.bound_terms(objective.q.sample((4,)))
    assert torch.equal(terms, log_weights)


@pytest.mark.slow
def test_the_two_layer_bound_is_the_enumerated_one():
    """t-test over 40 seeds against the sum over all values of both layers."""
    torch.manual_seed(5)
    problem = problems.create("hierarchical_vae[dataset=digits,latent_size=2,hidden=[],prior=learned]").double()
    x = torch.from_numpy(problem.data.train[:4]).double().round()
    with torch.no_grad():
        exact = float(problem(x).exact().mean())
    found = torch.tensor([evaluate_elbo(problem, x, 50, seed).elbo for seed in range(40)], dtype=torch.float64)
    score = (float(found.mean()) - exact) / float(found.std()) * math.sqrt(len(found))
    assert abs(score) < stats.t.isf(FALSE_ALARM / 2, len(found) - 1)
