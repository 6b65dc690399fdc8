"""Options of pathwise estimators: the VR-IWAE bound, and a learned prior's gradient along its own path."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal

from estbench import estimators, problems
from estbench.certify import small_problems_for
from estbench.certify.checks.exact_mean import enumerate_moments
from estbench.certify.problems.base import at_noise
from estbench.errors import EstbenchError
from estbench.estimators.multi_sample import importance_weighted
from estbench.latents import NormalLatents, TwoNormalLayers, at_own_noise
from estbench.problems import Objective

NORMAL = [problem for problem in small_problems_for({"normal"}, {"multi-sample"}) if problem.examples == 2]
ALPHAS = (0.3, 0.9)
NODES = 48  # as many as the mean of the estimate has
COPIES = 1024  # of one example in a minibatch, independent of each other


def exact_gradient(problem, alpha):
    """The gradient of the VR-IWAE bound by quadrature, written out from its definition."""
    leaves = problem.leaf_tensors()
    objective = problem.objective(leaves)
    count, size = problem.importance_samples, objective.q.event_shape[0]
    points, masses = np.polynomial.hermite_e.hermegauss(NODES)
    axes = size * count
    noise = torch.cartesian_prod(*[torch.tensor(points)] * axes).view(-1, count, size)
    mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * axes).view(-1, axes).prod(1)
    z = at_noise(objective.q, noise.view(-1, 1, size))
    w = objective.log_weight(z).view(len(mass), count, problem.examples).exp()
    value = (w ** (1 - alpha)).mean(1).log() / (1 - alpha)
    found = torch.autograd.grad((mass @ value).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("options", ["iwae[alpha={}]", "dreg[alpha={}]", "dreg[alpha={},prior=reparameterized]"])
def test_the_expected_gradient_is_that_of_the_vr_iwae_bound(options, alpha):
    """Of encoder, decoder and prior, to the accuracy of the quadrature; that of L_K is far away."""
    variant = options.format(alpha)
    assert not estimators.create(variant).unbiased
    for problem in NORMAL:
        mean = enumerate_moments(estimators.create(variant).eval(), problem).mean
        exact, other = exact_gradient(problem, alpha), problem.exact_gradient()
        for group, expected in exact.items():
            scale = problem.gradient_norm(group)
            assert float((mean[group] - expected).norm()) < 1e-6 * scale
        assert max(float((mean[g] - other[g]).norm()) / problem.gradient_norm(g) for g in problem.params) > 0.02


@pytest.mark.parametrize("name", ["iwae", "dreg"])
def test_at_zero_nothing_changes_and_at_one_it_is_the_elbo_s(name):
    """Bit by bit at 0. Near 1 all shares are 1/K, and the estimate that of stl or reparam from K samples."""
    problem = NORMAL[0]

    def draw(estimator, count=None):
        leaves = problem.leaf_tensors(4)
        torch.manual_seed(0)
        objective = problem.objective(leaves)
        if count is None:
            surrogate = estimators.create(estimator)(objective)
        else:
            z = objective.q.rsample((count,))
            surrogate = objective.log_weight(z, objective.frozen_q() if estimator == "stl" else None).mean(0)
        return torch.autograd.grad(surrogate.sum(), [leaves["loc"], leaves["log_scale"]])

    for first, second in zip(draw(name), draw(f"{name}[alpha=0.0]"), strict=True):
        assert torch.equal(first, second)
    averaged = draw("stl" if name == "dreg" else "reparam", problem.importance_samples)
    for first, second in zip(draw(f"{name}[alpha=0.999999]"), averaged, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_alpha_is_below_one():
    with pytest.raises(EstbenchError, match="alpha: input should be less than 1"):
        estimators.create("iwae[alpha=1]")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("problem", NORMAL, ids=lambda problem: problem.name)
def test_a_prior_s_gradient_along_its_path_is_exact_and_has_less_variance(problem):
    """By quadrature; encoder and decoder have the estimate that they had."""
    exact = problem.exact_gradient()
    score, path = (
        enumerate_moments(estimators.create(variant).eval(), problem)
        for variant in ("dreg", "dreg[prior=reparameterized]")
    )
    for group in problem.prior:
        assert float((path.mean[group] - exact[group]).norm()) < 1e-6 * problem.gradient_norm(group)
        assert float(path.variance[group].sum()) < 0.8 * float(score.variance[group].sum())
    for group in [*problem.params, "weights"]:
        torch.testing.assert_close(path.mean[group], score.mean[group], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(path.variance[group], score.variance[group], rtol=1e-9, atol=1e-9)


def hierarchical(options=""):
    torch.manual_seed(3)
    problem = problems.create(
        f"hierarchical_vae[dataset=digits,latents=normal,latent_size=2,hidden=[4],prior=learned,importance_samples=4{options}]"
    ).double()
    nn.init.normal_(problem.prior.outputs, std=0.3)
    x = problem.observe(torch.from_numpy(problem.data.train[:1]), torch.Generator().manual_seed(2)).double()
    return problem, x


def weight_gradients(problem, x, variant, replicates):
    """Gradients of independent minibatches, (replicates, weights): summed over the examples of each."""
    estimator, drawn = estimators.create_for(variant, problem), []
    for _ in range(replicates):
        found = torch.autograd.grad(estimator(problem(x)).mean(), list(problem.parameters()))
        drawn.append(torch.cat([each.flatten() for each in found]))
    return torch.stack(drawn)


@pytest.mark.slow_after(1)
def test_two_normal_layers_have_the_same_mean_gradient_by_every_path(largest_z):
    """z-scores of all weights, encoders, decoders and prior, against iwae's; the chance of any false alarm is 1e-4."""
    problem, x = hierarchical()
    x = x.expand(COPIES, -1)
    torch.manual_seed(0)
    drawn = {name: weight_gradients(problem, x, name, 60) for name in ("iwae", "dreg", "dreg[prior=reparameterized]")}
    names = [name for name, weight in problem.named_parameters() for _ in range(weight.numel())]
    of_prior = torch.tensor([name.startswith(("prior", "second_decoder")) for name in names])
    of_encoder = torch.tensor(["encoder" in name for name in names])
    plain = drawn["iwae"]
    for name in ("dreg", "dreg[prior=reparameterized]"):
        other = drawn[name]
        error = ((plain.var(0) + other.var(0)) / len(plain)).sqrt()
        z = (plain.mean(0) - other.mean(0)) / error.clamp(min=1e-12)
        assert float(z.abs().max()) < 1.35 * largest_z(2 * len(names))  # t of some 100 degrees of freedom
        assert float(other[:, of_encoder].var(0).sum()) < 0.8 * float(plain[:, of_encoder].var(0).sum())
    ratio = float(drawn["dreg[prior=reparameterized]"][:, of_prior].var(0).sum() / plain[:, of_prior].var(0).sum())
    assert ratio < 0.8


@pytest.mark.slow
def test_the_test_of_two_layers_would_see_a_wrong_path(largest_z, monkeypatch):
    """A prior's path that is a tenth too long."""
    monkeypatch.setattr(importance_weighted, "at_own_noise", lambda p, z: 1.1 * at_own_noise(p, z))
    problem, x = hierarchical()
    torch.manual_seed(0)
    x = x.expand(COPIES, -1)
    first, second = (weight_gradients(problem, x, name, 60) for name in ("iwae", "dreg[prior=reparameterized]"))
    z = (first.mean(0) - second.mean(0)) / ((first.var(0) + second.var(0)) / 60).sqrt().clamp(min=1e-12)
    assert float(z.abs().max()) > 1.35 * largest_z(2 * first.shape[1])


def test_the_joint_density_of_two_layers_is_the_product_of_both():
    problem, x = hierarchical()
    objective = problem(x)
    z = objective.q.sample((3,))
    z1, z2 = z.chunk(2, -1)
    q1 = problem.family.family(problem.encode(x))
    q2 = problem.family.family(problem.family.split(problem.second_encoder(z1)))
    torch.testing.assert_close(objective.q.log_prob(z), q1.log_prob(z1) + q2.log_prob(z2))
    p2 = problem.family.family(problem.prior.params)
    p1 = problem.family.family(problem.family.split(problem.second_decoder(z2)))
    torch.testing.assert_close(objective.prior.log_prob(z), p2.log_prob(z2) + p1.log_prob(z1))
    assert objective.q.event_shape == (4,)
    assert problem.reconstruct(x).shape == x.shape


def test_one_importance_sample_keeps_an_estimator_for_each_layer_and_bits_have_no_joint_bound():
    cls = problems.PROBLEMS.get("hierarchical_vae")
    joint = problems.PROBLEMS.options("hierarchical_vae[latents=normal,importance_samples=3]")
    single = problems.PROBLEMS.options("hierarchical_vae[latents=normal]")
    assert (cls.bound_of(joint), list(cls.latents_by_name(joint))) == ("multi-sample", ["z"])
    assert (cls.bound_of(single), list(cls.latents_by_name(single))) == ("elbo", ["z1", "z2"])
    assert "importance_samples" not in single.model_dump()
    with pytest.raises(EstbenchError, match="'importance_samples' has no effect with latents=bernoulli"):
        problems.PROBLEMS.options("hierarchical_vae[importance_samples=3]")


# --- samples at the noise of another distribution ------------------------------------------------------------------


def test_a_sample_at_own_noise_is_itself_and_moves_as_a_draw_does():
    """A draw of p at a replayed noise has the same value and derivative."""
    loc = torch.randn(3, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor([[1.0, 0, 0], [0.5, 0.7, 0], [-0.2, 0.1, 1.3]], dtype=torch.float64, requires_grad=True)
    for p in (
        Independent(Normal(loc, factor.diagonal()), 1),
        MultivariateNormal(loc, scale_tril=factor),
        TwoNormalLayers(
            NormalLatents(2).family({"loc": loc[:2], "log_scale": factor.diagonal()[:2]}),
            lambda root: NormalLatents(1).family(
                {"loc": root[..., :1] * loc[2:], "log_scale": factor[2:, :1] * root[..., 1:]}
            ),
            (2, 1),
            first_is_root=True,
        ),
        TwoNormalLayers(
            NormalLatents(1).family({"loc": loc[:1], "log_scale": factor[1:2, 0]}),
            lambda root: NormalLatents(2).family(
                {"loc": root * loc[1:], "log_scale": root.expand(*root.shape[:-1], 2)}
            ),
            (2, 1),
            first_is_root=False,
        ),
    ):
        torch.manual_seed(0)
        drawn = p.rsample((5,))
        moved = at_own_noise(p, drawn.detach())
        torch.testing.assert_close(moved, drawn)
        weight = torch.randn(drawn.shape, dtype=torch.float64)
        first, second = (
            torch.autograd.grad((weight * z).sum(), (loc, factor), retain_graph=True) for z in (drawn, moved)
        )
        for one, other in zip(first, second, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_another_prior_than_a_normal_one_is_refused():
    loc = torch.zeros(2, 1, requires_grad=True)
    objective = Objective(
        {"loc": loc, "log_scale": torch.full((2, 1), math.log(0.8))},
        NormalLatents(1).family,
        lambda z: -z.square().sum(-1),
        lambda: Independent(Laplace(torch.zeros(1), torch.ones(1)), 1),
        importance_samples=3,
    )
    with pytest.raises(EstbenchError, match=r"Laplace cannot be written.*take a normal"):
        estimators.create("dreg[prior=reparameterized]")(objective)
