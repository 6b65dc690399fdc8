"""What estimators require of q: any q that has it is served rightly, every other one is refused before a run."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    LogNormal,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    TransformedDistribution,
    constraints,
    transforms,
)

import estbench
from estbench import estimators, measure, problems
from estbench.errors import EstbenchError
from estbench.estimators.requirements import FAMILIES, family_of
from estbench.latents import BernoulliLatents, OneHot
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective

FALSE_ALARM = 1e-4  # of each test, over all its scores
REPLICATES = 40_000
DOUBLE = torch.float64


class Logistic(Distribution):
    """A distribution of one's own: a density and samples, and no more."""

    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, loc):
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def sample(self, sample_shape=()):
        with torch.no_grad():
            uniform = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype).clamp(1e-12, 1 - 1e-12)
            return self.loc + uniform.logit()

    def log_prob(self, value):
        step = value - self.loc
        return (-step - 2 * nn.functional.softplus(-step)).sum(-1)


def normal(p, dims=1):
    return Independent(Normal(p["loc"], p["log_scale"].exp()), dims)


def flow(p, cache=0):
    """Sinh of a normal, stretched: no family of its own."""
    stretch = transforms.AffineTransform(0.0, p["log_stretch"].exp(), event_dim=1, cache_size=cache)
    tanh = transforms.IndependentTransform(transforms.SigmoidTransform(cache_size=cache), 1, cache_size=cache)
    return TransformedDistribution(normal(p), [tanh, stretch])


def covariance(p):
    lower = p["tril"].tril(-1) + torch.diag_embed(p["tril"].diagonal(dim1=-2, dim2=-1).exp())
    return MultivariateNormal(p["loc"], scale_tril=lower)


def mixture(p):
    parts = Independent(Normal(p["locs"][..., None], 0.5), 1)
    return MixtureSameFamily(Categorical(logits=p["logits"]), parts)


def line(low, high, count=4001):
    grid = torch.linspace(low, high, count, dtype=DOUBLE)
    return grid[:, None], torch.full((count,), (high - low) / (count - 1), dtype=DOUBLE)


def plane(reach=7.0, count=141):
    grid, weights = line(-reach, reach, count)
    return torch.cartesian_prod(grid[:, 0], grid[:, 0]), (weights[:, None] * weights).flatten()


def positive():
    grid, weights = line(-9.0, 6.0)
    return grid.exp(), weights * grid[:, 0].exp()


def vector(*values):
    return torch.tensor([values, [0.7 * value - 0.2 for value in values]], dtype=DOUBLE)  # two examples


def standard(size):
    return lambda: Independent(Normal(torch.zeros(size, dtype=DOUBLE), torch.ones(size, dtype=DOUBLE)), 1)


# Of each q: its parameters, how it is made, the grid that its expectations are sums over, and a prior.
LOC_SCALE = {"loc": vector(0.4), "log_scale": vector(-0.3)}
KINDS = {
    "flow": ({**LOC_SCALE, "log_stretch": vector(0.8)}, flow, line(1e-6, 3.5, 20_001), standard(1)),
    "cached flow": (
        {**LOC_SCALE, "log_stretch": vector(0.8)},
        lambda p: flow(p, cache=1),
        line(1e-6, 3.5, 20_001),
        standard(1),
    ),
    "full covariance": (
        {"loc": vector(0.3, -0.4), "tril": torch.tensor([[[-0.2, 0.0], [0.6, -0.5]]] * 2, dtype=DOUBLE)},
        covariance,
        plane(),
        standard(2),
    ),
    "low rank": (
        {"loc": vector(0.3, -0.4), "factor": torch.tensor([[[0.5], [0.3]]] * 2, dtype=DOUBLE)},
        lambda p: LowRankMultivariateNormal(p["loc"], p["factor"], torch.full_like(p["loc"], 0.5)),
        plane(),
        standard(2),
    ),
    "mixture": (
        {"locs": vector(-0.8, 0.9), "logits": vector(0.3, -0.2)},
        mixture,
        line(-6, 6),
        standard(1),
    ),
    "own": ({"loc": vector(0.3)}, lambda p: Logistic(p["loc"]), line(-30, 30, 12_001), standard(1)),
    "log-normal": (
        LOC_SCALE,
        lambda p: Independent(LogNormal(p["loc"], p["log_scale"].exp()), 1),
        positive(),
        lambda: Independent(LogNormal(torch.zeros(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)), 1),
    ),
    "laplace": (
        LOC_SCALE,
        lambda p: Independent(Laplace(p["loc"], p["log_scale"].exp()), 1),
        line(-20, 20, 16_001),
        standard(1),
    ),
    "independent twice": (
        {"loc": vector(0.3, -0.4)[..., None], "log_scale": vector(-0.3, 0.1)[..., None]},
        lambda p: Independent(Independent(Normal(p["loc"], p["log_scale"].exp()), 1), 1),
        (plane()[0][..., None], plane()[1]),
        lambda: Independent(Normal(torch.zeros(2, 1, dtype=DOUBLE), torch.ones(2, 1, dtype=DOUBLE)), 2),
    ),
    "poisson": (
        {"log_rate": vector(0.5)},
        lambda p: Independent(Poisson(p["log_rate"].exp()), 1),
        (torch.arange(40, dtype=DOUBLE)[:, None], torch.ones(40, dtype=DOUBLE)),
        lambda: Independent(Poisson(torch.ones(1, dtype=DOUBLE)), 1),
    ),
}
REPARAMETERIZED = sorted(KINDS.keys() - {"mixture", "own", "poisson"})


def log_likelihood(z, dims):
    z = z.flatten(-dims)
    return -0.5 * (z - 0.7).square().sum(-1) + 0.3 * z.cos().sum(-1)


class Small(Problem):
    """Two examples with variational parameters of their own."""

    name = "small"

    def __init__(self, params, family, prior, **further):
        super().__init__()
        self.params = nn.ParameterDict({name: nn.Parameter(value.clone()) for name, value in params.items()})
        self.family, self.prior, self.further = family, prior, further
        self.data = SimpleNamespace(train=np.zeros((2, 3)))

    def observe(self, intensities, generator):
        return intensities

    def encode(self, x):
        return dict(self.params)

    def objective(self, params, x):
        dims = len(self.family(params).event_shape)
        further = {name: each(params) if callable(each) else each for name, each in self.further.items()}
        return Objective(params, self.family, lambda z: log_likelihood(z, dims), self.prior, x, **further)


def small(kind, **further):
    params, family, _, prior = KINDS[kind]
    return Small(params, family, prior, **further)


def exact_gradients(kind, samples=1, weight=1.0):
    """Of L or L_K, summed over the examples, by a sum over the grid."""
    params, family, (points, masses), prior = KINDS[kind]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    q = family(leaves)
    if samples > 1:  # every pair of a coarser grid
        points, masses = points[::8], masses[::8] * 8
    z = points[:, None].expand(len(points), 2, *q.event_shape)
    log_q, log_p = q.log_prob(z), prior().log_prob(z)
    log_w = log_likelihood(z, len(q.event_shape)) + weight * (log_p - log_q)
    mass = masses[:, None] * log_q.exp()
    if samples == 1:
        value = (mass * log_w).sum(0)
    else:
        pairs = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
        value = torch.einsum("ib,jb,ijb->b", mass, mass, pairs)
    return dict(zip(leaves, torch.autograd.grad(value.sum(), list(leaves.values())), strict=True))


def scores(estimator, problem, expected, replicates=REPLICATES):
    """z-scores of the mean gradient of every coordinate, each replicate having leaves of its own."""
    leaves = {
        name: value.detach().expand(replicates, *value.shape).clone().requires_grad_()
        for name, value in problem.params.items()
    }
    torch.manual_seed(0)
    surrogate = estimator(problem.objective(leaves, torch.zeros(2, 3)))
    assert surrogate.shape == (replicates, 2)
    found = dict(zip(leaves, torch.autograd.grad(surrogate.sum(), list(leaves.values())), strict=True))
    kept = []
    for name, gradient in found.items():
        error = gradient.std(0) / math.sqrt(replicates)
        live = error > 1e-12
        assert torch.allclose(gradient.mean(0)[~live], expected[name][~live], atol=1e-8)
        kept.append(((gradient.mean(0) - expected[name]) / error)[live])
    return torch.cat(kept)


CASES = [
    *((kind, name) for kind in KINDS for name in ("reinforce", "reinforce[baseline=optimal]", "rloo[num_samples=3]")),
    *((kind, name) for kind in REPARAMETERIZED for name in ("reparam", "stl")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_estimators_of_the_elbo_are_right_for_any_q_that_has_what_they_require(kind, name):
    """Against a sum over a grid; z-test of every coordinate, n = 40,000."""
    problem = small(kind)
    found = scores(estimators.create_for(name, problem), problem, exact_gradients(kind))
    assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / (2 * len(found) * len(CASES)))


@pytest.mark.parametrize(("kind", "name"), [("cached flow", "rloo"), ("mixture", "reinforce"), ("flow", "stl")])
def test_a_few_of_them_in_every_run(kind, name):
    """As above, with n = 10,000."""
    problem = small(kind)
    found = scores(estimators.create_for(name, problem), problem, exact_gradients(kind), 10_000)
    assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / (2 * len(found) * 3))


MULTI = [
    *((kind, name) for kind in ("flow", "mixture", "own", "poisson") for name in ("vimco", "reinforce-iwae")),
    *((kind, name) for kind in ("flow", "log-normal") for name in ("iwae", "dreg")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), MULTI)
def test_estimators_of_the_multi_sample_bound_are_right_for_any_q(kind, name):
    """K = 2, against a sum over all pairs of a grid; z-test of every coordinate, n = 40,000."""
    problem = small(kind, importance_samples=2)
    expected = exact_gradients(kind, samples=2) if kind != "poisson" else poisson_pairs()
    found = scores(estimators.create_for(name, problem), problem, expected)
    assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / (2 * len(found) * len(MULTI)))


def poisson_pairs():
    """All pairs: a sum over integers cannot be made coarser."""
    params, family, (points, _), prior = KINDS["poisson"]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    q = family(leaves)
    z = points[:, None].expand(len(points), 2, 1)
    log_q = q.log_prob(z)
    log_w = log_likelihood(z, 1) + prior().log_prob(z) - log_q
    pairs = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    value = torch.einsum("ib,jb,ijb->b", log_q.exp(), log_q.exp(), pairs)
    return dict(zip(leaves, torch.autograd.grad(value.sum(), list(leaves.values())), strict=True))


@pytest.mark.parametrize("name", ["dreg", "iwae"])
def test_events_of_two_dimensions_keep_their_weights_apart(name):
    """For D = K = B = 2 a weight in the wrong place would have a shape that fits; each sample's is its own."""
    problem = small("independent twice", importance_samples=2)
    flat = Small(
        {key: value[..., 0] for key, value in KINDS["independent twice"][0].items()},
        normal,
        standard(2),
        importance_samples=2,
    )
    gradients = []
    for each in (problem, flat):
        torch.manual_seed(1)
        surrogate = estimators.create(name)(each(torch.zeros(2, 3)))
        gradients.append(torch.autograd.grad(surrogate.sum(), list(each.params.values())))
    for nested, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(nested[..., 0], plain)


# --- weights of q that are not among its parameters --------------------------------------------------------------


class Warped(Small):
    """A flow whose own weight is the model's: q = w * N(loc, scale) + w."""

    def __init__(self, **further):
        super().__init__(LOC_SCALE, None, standard(1), **further)
        self.weight = nn.Parameter(torch.tensor(0.6, dtype=DOUBLE))
        self.family = lambda p: TransformedDistribution(
            normal(p), [transforms.AffineTransform(self.weight, self.weight.exp(), event_dim=1)]
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples"), [("reparam", 1), ("stl", 1), ("rloo", 1), ("vimco", 2), ("dreg", 2), ("reinforce-iwae", 2)]
)
def test_a_flow_s_own_weights_get_the_right_gradient(name, samples):
    """Of a grid; t-test of the means of 50 blocks of 2,000 replicates."""
    problem = Warped(importance_samples=samples)
    points, masses = line(-8, 14, 4401 if samples == 1 else 881)
    q = problem.family(dict(problem.params))
    z = points[:, None].expand(-1, 2, 1)
    log_q = q.log_prob(z)
    log_w = log_likelihood(z, 1) + problem.prior().log_prob(z) - log_q
    mass = masses[:, None] * log_q.exp()
    if samples == 1:
        value = (mass * log_w).sum()
    else:
        pairs = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
        value = torch.einsum("ib,jb,ijb->", mass, mass, pairs)
    (expected,) = torch.autograd.grad(value, [problem.weight])
    estimator = estimators.create_for(name, problem)
    torch.manual_seed(2)
    found = []
    for _ in range(50):
        params = {key: value.expand(2000, *value.shape) for key, value in problem.params.items()}
        surrogate = estimator(problem.objective(params, torch.zeros(2, 3))).mean(0).sum()
        found.append(float(torch.autograd.grad(surrogate, [problem.weight])[0]))
    score = (np.mean(found) - float(expected)) / np.std(found, ddof=1) * math.sqrt(len(found))
    assert abs(score) < stats.t.isf(FALSE_ALARM / 12, len(found) - 1)


def test_a_frozen_q_passes_gradients_to_its_sample_alone():
    problem = Warped()
    objective = problem(torch.zeros(2, 3))
    z = objective.q.sample((3,)).requires_grad_()
    log_q = objective.frozen_q().log_prob(z)
    torch.testing.assert_close(log_q, objective.q.log_prob(z))
    (gradient,) = torch.autograd.grad(objective.q.log_prob(z).sum(), z)
    found = torch.autograd.grad(log_q.sum(), [z, problem.weight, *problem.params.values()], allow_unused=True)
    torch.testing.assert_close(found[0], gradient)
    assert found[1:] == (None, None, None)


def test_a_flow_that_remembers_forgets_what_it_saw_without_gradients():
    """The density of a sample has the gradient that it has in a flow without a memory, bit for bit."""
    found = []
    for kind in ("flow", "cached flow"):
        problem = small(kind)
        objective = problem(torch.zeros(2, 3))
        torch.manual_seed(3)
        z = objective.q.sample((4,))
        with torch.no_grad():
            objective.q.log_prob(z)
            objective.f(z)
        found.append(torch.autograd.grad(objective.q.log_prob(z).sum(), list(problem.params.values())))
    assert all(map(torch.equal, *found))


# --- who is refused ---------------------------------------------------------------------------------------------


def made_of(base, **parameters):
    return lambda: Small({name: vector(*values) for name, values in parameters.items()}, base, standard(2))


OTHERS = {
    "softplus": made_of(
        lambda p: Independent(Normal(p["loc"], nn.functional.softplus(p["log_scale"])), 1),
        loc=(0.1, 0.2),
        log_scale=(0.3, 0.4),
    ),
    "variance": made_of(
        lambda p: Independent(Normal(p["loc"], (0.5 * p["log_scale"]).exp()), 1), loc=(0.1, 0.2), log_scale=(0.3, 0.4)
    ),
    "full covariance by other names": lambda: Small(
        {"loc": vector(0.1, 0.2), "log_scale": vector(0.3, 0.4)},
        lambda p: MultivariateNormal(
            p["loc"], torch.diag_embed((2 * p["log_scale"]).exp()) + 0.3 * torch.ones(2, 2, dtype=DOUBLE)
        ),
        standard(2),
    ),
    "student": made_of(
        lambda p: Independent(StudentT(5.0, p["loc"], p["log_scale"].exp()), 1), loc=(0.1, 0.2), log_scale=(0.3, 0.4)
    ),
    "laplace": made_of(
        lambda p: Independent(Laplace(p["loc"], p["log_scale"].exp()), 1), loc=(0.1, 0.2), log_scale=(0.3, 0.4)
    ),
    "flow by those names": made_of(
        lambda p: TransformedDistribution(normal(p), [transforms.TanhTransform()]), loc=(0.1, 0.2), log_scale=(0.3, 0.4)
    ),
    "one more parameter": made_of(normal, loc=(0.1, 0.2), log_scale=(0.3, 0.4), unused=(0.0, 0.0)),
    "probabilities": made_of(
        lambda p: Independent(Bernoulli(probs=p["logits"].sigmoid() * 0.9), 1), logits=(0.1, -0.2)
    ),
}
STRUCTURAL = [
    name
    for name in estimators.names()
    if not estimators.ESTIMATORS.get(name).supports & {"any", "reparameterized"} and name != "implicit"
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", STRUCTURAL)
def test_an_estimator_that_rests_on_structure_refuses_every_other_q(name, other):
    """On every way to it: when it is made for a problem, when it is probed, and in a loop of one's own."""
    problem, x = OTHERS[other](), torch.zeros(2, 3, dtype=DOUBLE)
    for way in (
        lambda: estimators.create_for(name, problem),
        lambda: measure.probe(problem, estimators.create(name), x, 3),
        lambda: estimators.create(name)(problem(x)),
    ):
        with pytest.raises(EstbenchError, match=f"'{name}' requires .* and q is a .* from"):
            way()


@pytest.mark.parametrize("kind", ["mixture", "own", "poisson"])
@pytest.mark.parametrize("name", ["reparam", "stl"])
def test_without_a_differentiable_sample_the_pathwise_estimators_are_refused(kind, name):
    with pytest.raises(EstbenchError, match=r"requires a differentiable sample \(rsample\), and q is"):
        estimators.create_for(name, small(kind))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_shipped_families_are_recognised_with_any_batch_dimensions(name):
    latents = FAMILIES[name]
    for batch in ((3,), (4, 3)):
        params = latents.split(torch.randn(*batch, latents.outputs))
        objective = Objective(params, latents.family, lambda z: z.sum(-1), lambda: None)
        state = torch.get_rng_state()
        assert family_of(objective) == name
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("other", ["softplus", "student", "flow by those names", "full covariance by other names"])
def test_a_problem_that_claims_a_family_which_its_q_is_not_is_refused_for_every_estimator(other):
    problem = OTHERS[other]()
    problem.latents_of = lambda options: "normal"
    for name in ("rloo", "reparam"):
        with pytest.raises(EstbenchError, match="says that its latents are normal, and its q is a"):
            estimators.create_for(name, problem)
    problem.latents_of = lambda options: "flow"
    estimators.create_for("rloo", problem)


def test_a_density_that_is_no_number_for_each_example_is_refused():
    problem = Small(LOC_SCALE, lambda p: Normal(p["loc"], p["log_scale"].exp()), standard(1))
    problem.objective = lambda params, x: Objective(params, problem.family, lambda z: z.sum(-1), problem.prior, x)
    with pytest.raises(EstbenchError, match=r"batch shape \(2, 1\) for 2 examples; .*Independent"):
        estimators.create_for("rloo", problem)


def test_a_sample_without_a_gradient_is_found():
    class Cut(Independent):
        def rsample(self, sample_shape=()):
            return super().rsample(sample_shape).detach()

    problem = Small(
        {"mean": vector(0.1), "log_scale": vector(0.2)},
        lambda p: Cut(Normal(p["mean"], p["log_scale"].exp()), 1),
        standard(1),
        kl=lambda params: lambda: params["mean"].new_zeros(params["mean"].shape[:-1]),
    )
    with pytest.raises(EstbenchError, match="carries no gradient"):
        estimators.create_for("reparam", problem)


def test_a_flow_without_an_inverse_is_refused_by_those_that_ask_for_it():
    class OneWay(transforms.Transform):
        domain = codomain = constraints.real
        bijective = True

        def _call(self, x):
            return x + 0.5 * x.tanh()

        def log_abs_det_jacobian(self, x, y):
            return (1.5 - 0.5 * x.tanh().square()).log()

    problem = Small(
        LOC_SCALE,
        lambda p: TransformedDistribution(normal(p), [transforms.IndependentTransform(OneWay(cache_size=1), 1)]),
        standard(1),
    )
    for name in ("rloo", "stl"):
        with pytest.raises(EstbenchError, match=f"'{name}' asks q for what"):
            estimators.create_for(name, problem)


@pytest.mark.parametrize(
    ("density", "served"),
    [
        (lambda logits: OneHot(logits=logits, validate_args=False), True),
        (lambda logits: OneHotCategorical(logits=logits, validate_args=False), False),
        (lambda logits: OneHotCategorical(logits=logits), False),
    ],
)
def test_relaxed_samples_need_a_density_between_the_corners(density, served):
    problem = Small(
        {"logits": torch.randn(2, 2, 3, dtype=DOUBLE)},
        lambda p: Independent(density(p["logits"]), 1, validate_args=False),
        lambda: Independent(density(torch.zeros(2, 3, dtype=DOUBLE)), 1, validate_args=False),
    )
    estimators.create_for("ars", problem)  # takes it at the corners only
    if served:
        estimators.create_for("rebar", problem)
    else:
        with pytest.raises(EstbenchError, match="'rebar' takes the density of a sampled KL between the values"):
            estimators.create_for("rebar", problem)


def test_an_estimator_of_the_elbo_is_refused_on_the_multi_sample_bound():
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[4],importance_samples=3]")
    with pytest.raises(EstbenchError, match="'reparam' is for the ELBO, and the objective has 3 importance samples"):
        estimators.create_for("reparam", problem)


def test_unknown_requirements_are_no_declaration():
    with pytest.raises(EstbenchError, match=r"supports = .*gauss.*; take of any, "):

        @estimators.register("wants-gauss")
        class WantsGauss(estimators.Estimator):
            summary, supports, unbiased, needs_differentiable_f, evaluations = "x", {"gauss"}, True, True, 1


CLAIMS = """
import torch
from torch.distributions import Independent, StudentT
from estbench.problems import Objective, register
from estbench.problems.vae import VAE

@register("claims")
class Claims(VAE):
    def objective(self, params, x):
        def family(p):
            return Independent(StudentT(4.0, p["loc"], p["log_scale"].exp()), 1)
        prior = {name: torch.zeros(2) for name in params}
        return Objective(params, family, lambda z: z.sum(-1) + self.decoder(z).sum(-1), lambda: family(prior), x)

@register("admits")
class Admits(Claims):
    @classmethod
    def latents_of(cls, options):
        return "student"
"""


def test_a_plan_is_refused_before_anything_is_written_and_a_custom_family_runs(tiny, tmp_path, plugin):
    path = plugin("claims.py", CLAIMS)
    out = tmp_path / "out"
    for name, chosen, said in (
        ("claims", "rloo", "says that its latents are normal"),
        ("admits", "delta", "requires normal latents"),
    ):
        spec = {**tiny, "problems": [f"{name}[dataset=digits,latent_size=2,hidden=[4]]"], "estimators": [chosen]}
        with pytest.raises(EstbenchError, match=said):
            estbench.run(spec, out=out, plugins=[path])
        assert not out.exists()
    spec = {**spec, "estimators": ["rloo", "reparam", "stl"]}
    assert estbench.run(spec, out=out, plugins=[path]).cells.status.eq("done").all()


# --- a KL that is weighted, or something else --------------------------------------------------------------------


def weighted_kl(weigh):
    """A kl that is given as it is: KL(q || p) of the normal, changed."""

    def kl(params):
        loc, log_scale = params["loc"], params["log_scale"]
        true = 0.5 * (loc.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum(-1)
        return lambda: weigh(true)

    return kl


def small_normal(**further):
    return Small({"loc": vector(0.4, -0.3), "log_scale": vector(-0.3, 0.2)}, normal, standard(2), **further)


WRONG = {
    "beta 4": lambda kl: 4 * kl,
    "beta 0.5": lambda kl: 0.5 * kl,
    "beta 0": lambda kl: 0 * kl,
    "a tensor": lambda kl: torch.tensor(1.5, dtype=DOUBLE) * kl,
    "free bits that do not show here": lambda kl: kl.clamp(min=0.01),
    "capped": lambda kl: kl.clamp(max=50.0),
    "off by a constant": lambda kl: kl + 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_what_uses_the_densities_refuses_a_kl_that_is_none_and_others_ascend_it(wrong):
    problem = small_normal(kl=weighted_kl(WRONG[wrong]))
    with pytest.raises(EstbenchError, match="'stl' uses the densities of q and prior, and the kl that was given is"):
        estimators.create_for("stl", problem)
    expected = small_normal_gradients(WRONG[wrong])
    for name in ("reparam", "rloo", "delta"):
        found = scores(estimators.create_for(name, problem), problem, expected, 20_000)
        assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / (2 * 8 * 3 * len(WRONG)))


def small_normal_gradients(weigh):
    """Of E_q[log p(x|z)] - weigh(KL) in closed form: E cos z = exp(-s^2 / 2) cos m."""
    problem = small_normal()
    loc, scale = problem.params["loc"], problem.params["log_scale"].exp()
    mean = -0.5 * ((loc - 0.7).square() + scale.square()) + 0.3 * (-0.5 * scale.square()).exp() * loc.cos()
    value = mean.sum(-1) - weighted_kl(weigh)(problem.params)()
    return dict(zip(problem.params, torch.autograd.grad(value.sum(), list(problem.params.values())), strict=True))


def test_a_warm_up_that_is_over_in_eval_mode_is_found():
    problem = small_normal()
    problem.further["kl"] = weighted_kl(lambda kl: (0.1 if problem.training else 1.0) * kl)
    with pytest.raises(EstbenchError, match="'stl' uses the densities"):
        estimators.create_for("stl", problem)
    assert problem.training


def test_a_refusal_holds_however_often_one_calls():
    """Also for an objective that is weighted later on, once an estimator has been used."""
    problem, x = small_normal(kl=weighted_kl(lambda kl: 3 * kl)), torch.zeros(2, 3)
    estimator = estimators.create("stl")
    for _ in range(3):
        with pytest.raises(EstbenchError, match="'stl' uses the densities"):
            estimator(problem(x))
    bits = problems.create("vae[dataset=digits,latents=bernoulli,latent_size=2,hidden=[4]]")
    estimator, x = estimators.create("concrete[kl=concrete]"), torch.zeros(2, 64)
    estimator(bits(x))
    weighted = bits(x)
    weighted.kl_weight = 0.5
    with pytest.raises(EstbenchError, match="the KL has a weight"):
        estimator(weighted)


def test_a_look_leaves_a_problem_as_it_was():
    class Counting(Small):
        def objective(self, params, x):
            self.calls = getattr(self, "calls", 0) + 1
            self.seen = self.seen + 1  # another tensor
            self.total.add_(1)
            return super().objective(params, x)

    problem = Counting(LOC_SCALE, normal, standard(1))
    problem.register_buffer("seen", torch.zeros(()))
    problem.register_buffer("total", torch.zeros(()))
    state = torch.get_rng_state()
    estimators.create_for("stl", problem)
    assert not hasattr(problem, "calls")
    assert float(problem.seen) == float(problem.total) == 0
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("cast", [True, False])
def test_weights_of_another_precision_than_the_data_s_are_looked_at(cast):
    """In a problem in double precision, and in one that takes the data as they are and has a weight in double."""
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[4]]")
    if cast:
        problem.double()
    else:
        problem.register_parameter("temperature", nn.Parameter(torch.ones((), dtype=DOUBLE)))
    estimators.create_for("stl", problem)
    with pytest.raises(EstbenchError, match="requires bernoulli latents"):
        estimators.create_for("arm", problem)


def test_what_cannot_be_rehearsed_is_left_alone():
    """An estimator that cannot be copied, and an objective that expects parameters as an encoder gives them."""

    class Picky(Small):
        def objective(self, params, x):
            assert params["loc"].abs().max() < 1
            return super().objective(params, x)

    estimator = estimators.create("rloo")
    estimator.lock = threading.Lock()
    estimators.check_for(estimator, Picky(LOC_SCALE, normal, standard(1), kl=weighted_kl(lambda kl: kl)))
    estimators.check_for(estimator, small("mixture"))


def uncertain_bits(params):
    return Independent(Bernoulli(probs=0.9 * params["logits"].sigmoid()), 1)


@pytest.mark.parametrize("other", ["first", "second"])
def test_each_of_two_layers_is_looked_at(other):
    problem = problems.create("hierarchical_vae[dataset=digits,latent_size=3,hidden=[4]]")
    original = problem.objective
    problem.latents_of = lambda options: "my bits"

    def objective(params, x):
        made = original(params, x)
        family = made.build_q

        def second(z):
            true = made.second(z)
            kind = uncertain_bits if other == "second" else true.build_q
            prior = {"logits": torch.zeros(3)}
            return Objective(true.params, kind, lambda z: z.sum(-1), lambda: kind(prior), true.context)

        kind = uncertain_bits if other == "first" else family
        return TwoLayerObjective(params, kind, lambda z: z.sum(-1), second, BernoulliLatents(3), x)

    problem.objective = objective
    estimators.create_for("rloo", problem)
    for name in ("disarm", "rebar", "enumeration"):
        with pytest.raises(EstbenchError, match="requires bernoulli latents"):
            estimators.create_for(name, problem)


def test_of_many_replicates_few_are_looked_at():
    sizes = []

    def family(params):
        sizes.append(params["loc"].numel())
        return normal(params)

    params = {name: value.expand(1000, 5, 2, 1) for name, value in LOC_SCALE.items()}
    objective = Objective(params, family, lambda z: z.sum(-1), standard(1))
    sizes.clear()
    assert family_of(objective) == "normal"
    assert max(sizes) == 2


def test_a_kl_without_a_closed_form_in_torch_is_compared_with_draws():
    """The logistic of one's own: a KL that is too large by half is told from one that is right."""
    params, family, (points, masses), prior = KINDS["own"]
    q = family(params)
    z = points[:, None].expand(-1, 2, 1)
    true = (masses[:, None] * q.log_prob(z).exp() * (q.log_prob(z) - prior().log_prob(z))).sum(0)
    for factor, refused in ((1.0, False), (1.5, True)):
        objective = Objective(params, family, lambda z: z.sum(-1), prior, kl=lambda factor=factor: factor * true)
        assert bool(estimators.requirements.kl_gap(objective, 10_000)) == refused


@pytest.mark.parametrize("weight", [4.0, 0.5, 0.0, 0, 1, torch.tensor(2.5, dtype=DOUBLE), torch.tensor([0.3, 1.7])])
@pytest.mark.parametrize("analytic", [True, False])
def test_a_stated_weight_is_right_for_all(weight, analytic):
    kl = {"kl": weighted_kl(lambda kl: kl)} if analytic else {}
    problem = small_normal(kl_weight=weight, **kl)
    expected = small_normal_gradients(lambda kl: weight * kl)
    for name in ("reparam", "stl", "rloo", "reinforce[num_samples=2]", "delta"):
        found = scores(estimators.create_for(name, problem), problem, expected, 20_000)
        assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / (2 * 8 * 5 * 14))


@pytest.mark.parametrize(
    "further",
    [
        {"kl_weight": -1.0},
        {"kl_weight": math.nan},
        {"kl_weight": math.inf},
        {"kl_weight": 2.0, "importance_samples": 2},
    ],
)
def test_a_weight_that_means_nothing_is_refused(further):
    with pytest.raises(EstbenchError, match="kl_weight"):
        small_normal(**further)(torch.zeros(2, 3))


def test_a_multi_sample_bound_with_a_kl_of_its_own_is_refused():
    problem = small_normal(importance_samples=2, kl=weighted_kl(lambda kl: 3 * kl))
    with pytest.raises(EstbenchError, match="multi-sample bound has no KL apart"):
        estimators.create_for("iwae", problem)


@pytest.mark.parametrize("name", ["concrete", "gumbel-softmax"])
def test_what_reads_the_prior_itself_refuses_a_weight(name):
    size = "latent_size=2,categories=3" if name == "gumbel-softmax" else "latent_size=2"
    problem = problems.create(
        f"vae[dataset=digits,hidden=[4],latents={'bernoulli' if name == 'concrete' else 'categorical'},{size}]"
    )
    original = problem.objective

    def weighted(params, x):
        objective = original(params, x)
        objective.kl_weight = 2.0
        return objective

    problem.objective = weighted
    estimators.create_for(name, problem)
    with pytest.raises(EstbenchError, match="uses the densities of q and prior, and the KL has a weight"):
        estimators.create_for(f"{name}[kl=concrete]", problem)
