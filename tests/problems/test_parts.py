"""Networks, posteriors, priors and likelihoods by name: shipped ones, and one's own."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from estbench import EstbenchError, datasets, estimators, measure, problems
from estbench.options import BaseOptions
from estbench.problems import PROBLEMS
from estbench.problems.networks import Sizes, build_network

pytestmark = pytest.mark.usefixtures("forgetful_registries")

TINY = "dataset=digits,hidden=[4],latent_size=2"


def observed(problem, count=3):
    intensities = torch.from_numpy(problem.data.train[:count])
    return problem.observe(intensities, torch.Generator().manual_seed(0))


SHAPES = [(1, 28, 28), (3, 32, 32), (1, 7, 7), (3, 9, 14), (1, 5, 30), (2, 4, 4)]


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("image", SHAPES, ids=str)
def test_convolutions_give_images_of_any_size_back(image, norm):
    sizes = Sizes(image, params=6, latents=3, outputs=(2 * image[0], *image[1:]))
    encoder, decoder = build_network(f"conv[channels=[3,16],hidden=[5],norm={norm}]", sizes)
    pixels, outputs = math.prod(image), math.prod(sizes.outputs)
    assert encoder(torch.rand(4, 2, pixels)).shape == (4, 2, 6)
    assert decoder(torch.randn(4, 2, 3)).shape == (4, 2, outputs)
    norms = [module for module in decoder.modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
    assert len(norms) == (0 if norm == "none" else 1), "pixels are not normalised"


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ("conv[channels=[8,8,8,8]]", "images of 8 x 8 are too small"),
        ("conv[channels=[]]", "channels"),
        ("conv[norm=layer]", "norm"),
        ("convolution", "unknown network 'convolution'; did you mean 'conv'"),
        ("mlp[hidden=[4]]", "unknown key 'hidden'"),
        ("conv[width=3]", "unknown key 'width'"),
    ],
)
def test_a_network_that_cannot_be_is_refused(variant, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        problems.create(f"vae[dataset=digits,network={variant}]")


@pytest.mark.parametrize("option", ["hidden=[4]", "activation=relu"])
def test_options_of_the_perceptrons_have_no_effect_with_another_network(option):
    with pytest.raises(EstbenchError, match="has no effect with network=linear; drop it"):
        problems.create(f"vae[dataset=digits,network=linear,{option}]")


def test_a_linear_network_is_the_one_without_hidden_layers():
    states = []
    for variant in ("network=linear", "hidden=[]"):
        torch.manual_seed(3)
        states.append(problems.create(f"vae[dataset=digits,{variant}]").state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_leading_dimensions_are_rows_in_their_order():
    seen = []

    @problems.register_network("rows")
    def rows(sizes):
        decoder = nn.Linear(sizes.latents, math.prod(sizes.outputs))
        decoder.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(sizes.image), sizes.params)), decoder

    problem = problems.create("vae[dataset=digits,network=rows,latent_size=2]")
    x = observed(problem)
    params = {name: value.expand(4, *value.shape) for name, value in problem.encode(x).items()}
    objective = problem.objective(params, x)
    z = torch.randn(5, 4, 3, 2)
    together = objective.f(z)
    assert seen[-1] == (60, 2)
    for sample, replicate in product(range(5), range(4)):
        alone = problem(x).f(z[sample, replicate][None])[0]
        torch.testing.assert_close(together[sample, replicate], alone)


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        (lambda sizes: nn.Linear(64, sizes.params), "must return two modules, an encoder and a decoder"),
        (lambda _sizes: (nn.Flatten(), nn.Linear(2, 64)), "network gives .* and 4 numbers are wanted for each"),
        (lambda sizes: (nn.Flatten(), nn.Linear(3, sizes.params)), "network gives"),
        (lambda sizes: 1 / 0, "division by zero|ZeroDivisionError"),
    ],
)
def test_a_network_of_one_s_own_that_is_wrong_is_named(returned, complaint):
    problems.register_network("wrong")(returned)

    def use():
        problem = problems.create("vae[dataset=digits,network=wrong,latent_size=2]")
        problem(observed(problem))

    with pytest.raises((EstbenchError, ZeroDivisionError), match=complaint):
        use()


def test_batch_norm_and_dropout_follow_the_mode_of_the_problem():
    @problems.register_network("noisy")
    def noisy(sizes):
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(sizes.image), sizes.params), nn.Dropout(0.5))
        return encoder, nn.Sequential(nn.BatchNorm1d(sizes.latents), nn.Linear(sizes.latents, math.prod(sizes.outputs)))

    problem = problems.create("vae[dataset=digits,network=noisy,latent_size=2]")
    x, before = observed(problem, 20), {name: value.clone() for name, value in problem.named_buffers()}
    first, second = (measure.evaluate_elbo(problem, x, 4, seed=0) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], value) for name, value in problem.named_buffers())
    moments = measure.probe(problem, estimators.create("reparam"), x, replicates=5)
    assert moments.table["value"].notna().all()


def test_options_of_a_part_are_written_in_brackets_and_belong_to_the_key():
    class Options(BaseOptions):
        width: int = 3

    @problems.register_network("wide", Options)
    def wide(sizes, options):
        hidden = options.width
        encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(sizes.image), hidden), nn.Linear(hidden, sizes.params)
        )
        return encoder, nn.Linear(sizes.latents, math.prod(sizes.outputs))

    resolve = PROBLEMS.resolve
    plain, same, other = (
        resolve(f"vae[dataset=digits,network={written}]") for written in ("wide", "wide[width=3]", "wide[width=4]")
    )
    assert plain.options == same.options != other.options
    assert other.label == "vae[dataset=digits,network=wide[width=4]]"
    assert plain.source, "code that does not ship is part of the key"
    assert resolve(other.label).options == other.options


def test_a_full_covariance_is_that_of_its_factor():
    torch.manual_seed(0)
    problem = problems.create(f"vae[{TINY},posterior=full,prior=learned]")
    nn.init.normal_(problem.prior.outputs, std=0.3)
    x = observed(problem)
    objective = problem(x)
    (lower,), scale = objective.params["lower"].T, objective.params["log_scale"].exp()
    factor = torch.stack([torch.stack([scale[:, 0], 0 * lower], -1), torch.stack([lower, scale[:, 1]], -1)], -2)
    q = MultivariateNormal(objective.params["loc"], scale_tril=factor)
    loc, log_scale = problem.prior.outputs.chunk(2)
    p = Independent(Normal(loc, log_scale.exp()), 1)
    z = q.sample((4,))
    torch.testing.assert_close(objective.q.log_prob(z), q.log_prob(z))
    as_full = MultivariateNormal(p.mean, torch.diag(p.variance))
    torch.testing.assert_close(objective.kl(), kl_divergence(q, as_full))
    torch.testing.assert_close(objective.bound_terms(z).elbo, objective.f(z) - objective.kl())


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ("latents=bernoulli,posterior=full", "cannot be full with latents=bernoulli; it is for normal latents"),
        ("posterior=ful", "unknown posterior 'ful'; did you mean 'full'"),
        ("prior=lerned", "unknown prior 'lerned'; did you mean 'learned'"),
        ("likelihood=gausian", "unknown likelihood 'gausian'; did you mean 'gaussian'"),
        ("posterior=full[x=1]", "unknown key 'x'"),
    ],
)
def test_a_part_that_cannot_be_is_refused(variant, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        problems.create(f"vae[{TINY},{variant}]")


def test_estimators_look_at_q_and_not_at_its_name():
    full = problems.create(f"vae[{TINY},posterior=full]")
    for name in ("reinforce", "rloo", "reparam", "stl"):
        estimators.create_for(name, full)(full(observed(full))).sum().backward()
    for name in ("measure-valued", "rqmc"):
        with pytest.raises(EstbenchError, match=r"requires .*normal latents .* q is a MultivariateNormal"):
            estimators.create_for(name, full)


def test_a_posterior_of_one_s_own_is_taken_by_what_it_can():
    @problems.register_posterior("mixture")
    class Mixture(problems.Posterior):
        def __init__(self, latents):
            super().__init__(latents)
            self.outputs = 3 * (1 + 2 * self.size)

        def split(self, outputs):
            logits, loc, log_scale = outputs.split([3, 3 * self.size, 3 * self.size], -1)
            return {"logits": logits, "loc": loc.unflatten(-1, (3, -1)), "log_scale": log_scale.unflatten(-1, (3, -1))}

        def family(self, params):
            parts = Independent(Normal(params["loc"], params["log_scale"].exp()), 1)
            return MixtureSameFamily(Categorical(logits=params["logits"]), parts)

    problem = problems.create(f"vae[{TINY},posterior=mixture]")
    assert PROBLEMS.get("vae").latents_of(problem.options) == "normal (mixture)"
    x = observed(problem)
    for name in ("reinforce", "rloo"):
        estimator = estimators.create_for(name, problem)
        assert estimator(problem(x)).shape == (3,)
    assert measure.probe(problem, estimator, x, replicates=4).table["value"].notna().all()
    with pytest.raises(EstbenchError, match=r"'reparam' requires a differentiable sample \(rsample\), and q is a Mix"):
        estimators.create_for("reparam", problem)
    with pytest.raises(EstbenchError, match="option 'kl'"):
        problems.create(f"vae[{TINY},posterior=mixture,kl=sampled]")


def test_a_prior_and_a_likelihood_of_one_s_own_are_used_and_trained():
    @problems.register_prior("vamp")
    class Vamp(problems.Prior):
        def __init__(self, latents, data):
            super().__init__(latents, data)
            self.pseudo = nn.Parameter(torch.from_numpy(data.train[:5].copy()))

        def forward(self, posterior):
            return MixtureSameFamily(Categorical(torch.ones(5)), posterior(self.pseudo))

    @problems.register_likelihood("laplace")
    class LaplaceLikelihood(problems.Likelihood):
        channels = 2

        def forward(self, outputs, x):
            loc, log_scale = outputs.chunk(2, -1)
            return Laplace(loc, log_scale.exp()).log_prob(x).sum(-1)

        def mean(self, outputs):
            return outputs.chunk(2, -1)[0]

    problem = problems.create(f"vae[{TINY},prior=vamp,likelihood=laplace]")
    assert problem.card_of(problem.options) == "digits-v1-laplace-shuffled-normal-vamp-binary"
    x = observed(problem)
    assert torch.equal(x, torch.from_numpy(problem.data.train[:3])), "grey pixels stay as they are"
    estimators.create_for("stl", problem)(problem(x)).sum().backward()
    groups = problem.groups()
    assert groups["prior"] == [problem.prior.pseudo]
    assert problem.prior.pseudo.grad.ne(0).any()
    assert measure.evaluate_elbo(problem, x, 4, seed=0).iwae
    assert problem.decode(problem.sample_prior(6)).shape == (6, 64)
    datasets.register("static_digits", datasets.DatasetInfo("own", "static"))(lambda: None)
    with pytest.raises(EstbenchError, match="cannot be laplace: the pixels of 'static_"):
        PROBLEMS.resolve("vae[dataset=static_digits,likelihood=laplace]")


def test_new_options_leave_the_keys_of_old_results_as_they_are():
    assert "network" not in PROBLEMS.resolve("vae").options
    assert "latents" not in PROBLEMS.resolve("hierarchical_vae").options
    assert PROBLEMS.resolve("vae[network=linear]").options["network"] == "linear"
    assert problems.describe("vae")["options"]["posterior"] == "diagonal"
