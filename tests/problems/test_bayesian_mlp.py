"""``bayesian_mlp`` written out again, and the estimators that give each of its rows noise of its own."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.z_scores import largest_z, z_of_mean, z_of_variance
from torch.distributions import Normal

from estbench import estimators, measure, problems
from estbench.errors import EstbenchError
from estbench.latents import NormalLatents
from estbench.problems import Objective
from estbench.problems.linear_layers import LinearLayers

ACTING_WITHIN = ("local-reparam", "flipout")
DRAWS = 20_000


def made(variant="bayesian_mlp[hidden=[3,2],minibatch=8]", examples=2):
    torch.manual_seed(4)
    problem = problems.create(variant).double()
    return problem, torch.from_numpy(problem.data.train[:examples]).double()


def test_f_is_the_scaled_log_likelihood_of_a_perceptron():
    problem, x = made()
    objective = problem(x)
    z = objective.q.sample((3,))
    expected = torch.zeros(3, 2, dtype=z.dtype)
    for sample in range(3):
        for example in range(2):
            w = z[sample, example]
            first, second, third = w[:6].view(2, 3), w[6:14].view(4, 2), w[14:].view(3, 1)
            for row in x[example].long():
                h = torch.tanh(problem.inputs[row] * first[0] + first[1])
                h = torch.tanh(h @ second[:3] + second[3])
                expected[sample, example] += Normal(h @ third[:2, 0] + third[2, 0], 0.2).log_prob(problem.outputs[row])
    torch.testing.assert_close(objective.f(z), 128 / 8 * expected)


def test_the_mean_over_all_minibatches_is_the_objective_of_all_data():
    problem, _ = made()
    windows, everything = (torch.from_numpy(part).double() for part in (problem.data.train, problem.data.test))
    w = problem(everything).q.sample()
    with torch.no_grad():
        mean = problem(windows).f(w.expand(1, len(windows), -1)).mean()
        torch.testing.assert_close(mean, problem(everything).f(w[None]).squeeze())


def test_the_data_are_the_same_in_every_run():
    one, other = problems.create("bayesian_mlp"), problems.create("bayesian_mlp")
    assert torch.equal(one.outputs, other.outputs)
    assert not torch.equal(one.loc, other.loc)


def one_weight(rows, replicates):
    """A regression y = w x with a normal q of w, and rows without a bias: gradients whose variances are known."""
    x = torch.tensor(rows, dtype=torch.float64)
    y = 0.5 * x + 0.3
    layers = LinearLayers([1, 1])
    latents = NormalLatents(2)
    shape = (replicates, 2)
    # The bias has hardly any spread, so that all noise is that of w.
    params = {
        "loc": torch.tensor([0.7, 0.0], dtype=torch.float64).expand(shape).clone().requires_grad_(),
        "log_scale": torch.tensor([math.log(0.6), -40.0], dtype=torch.float64).expand(shape).clone().requires_grad_(),
    }
    standard = {name: torch.zeros_like(value) for name, value in params.items()}

    def log_likelihood(z):
        return -0.5 * (y - layers.draw(z).linear(0, x[:, None]).squeeze(-1)).square().sum(-1)

    objective = Objective(
        params,
        latents.family,
        log_likelihood,
        lambda: latents.family(standard),
        kl=lambda: latents.kl(params, standard),
    )
    objective.linear_layers = layers
    return objective


@pytest.mark.parametrize("rows", [[1.0, 1.0, 1.0, 1.0], [0.5, -1.0, 2.0]])
def test_variances_of_a_regression_of_one_weight_are_those_of_the_formula(rows):
    """d/dm is a constant less sum_n x_n (a_n - E a_n), and a_n = m x_n + s x_n e_n for each row n.

    One draw for all rows has the variance s^2 (sum x^2)^2; independent or uncorrelated ones have s^2 sum x^4.
    """
    x = torch.tensor(rows, dtype=torch.float64)
    expected = {"reparam": x.square().sum() ** 2, **dict.fromkeys(ACTING_WITHIN, x.pow(4).sum())}
    torch.manual_seed(8)
    for name, value in expected.items():
        objective = one_weight(rows, DRAWS)
        gradient = torch.autograd.grad(estimators.create(name)(objective).sum(), objective.params["loc"])[0][:, 0]
        assert abs(z_of_variance(gradient, 0.36 * value)) < largest_z(6), name


@pytest.mark.parametrize("name", ACTING_WITHIN)
def test_its_gradient_has_the_mean_of_reparam_and_less_variance(name):
    problem, x = made(examples=1)
    drawn = {
        each: measure.draw_gradients(problem, estimators.create_for(each, problem), x, DRAWS // 2, seed=3)
        for each in ("reparam", name)
    }
    for parameter in ("loc", "log_scale"):
        ours, theirs = drawn[name][parameter], drawn["reparam"][parameter]
        error = ((ours.var(0) + theirs.var(0)) / len(ours)).sqrt()
        z = (ours.mean(0) - theirs.mean(0)) / error
        assert z.abs().max() < largest_z(2 * 2 * z.numel())
    # Eight rows: at best an eighth, where the rows of one draw agree.
    ratio = drawn[name]["loc"].var(0).sum() / drawn["reparam"]["loc"].var(0).sum()
    assert 1 / 8 < ratio < 0.6


@pytest.mark.parametrize("name", ACTING_WITHIN)
def test_rows_have_noise_that_is_uncorrelated(name):
    """The pre-activations of two equal rows: with one draw for both, they would be equal."""
    torch.manual_seed(5)
    layers = LinearLayers([2, 1])
    loc = torch.randn(1, 1, layers.size, dtype=torch.float64).expand(1, DRAWS, -1)
    scale, rows = torch.full_like(loc, 0.5), torch.ones(DRAWS, 2, 2, dtype=torch.float64)
    values = estimators.create(name).draw(loc, scale, layers).linear(0, rows).squeeze(-1)[0]
    expected = Normal(loc[0, 0].sum(), 0.5 * math.sqrt(3))
    assert z_of_mean(values, expected.mean).abs().max() < largest_z(5)
    assert z_of_variance(values, expected.variance).abs().max() < largest_z(5)
    centred = values - expected.mean
    assert abs(z_of_mean(centred.prod(1, keepdim=True), 0.0)) < largest_z(5)
    shared = layers.draw(loc + scale * torch.randn_like(loc)).linear(0, rows).squeeze(-1)[0]
    assert torch.equal(shared[:, 0], shared[:, 1])


@pytest.mark.parametrize("name", ACTING_WITHIN)
def test_other_objectives_are_refused_in_words(name):
    with pytest.raises(EstbenchError, match="linear layers"):
        estimators.create_for(name, problems.create("gaussian_toy"))
    problem, x = made()
    objective = problem(x)
    objective._kl = None
    with pytest.raises(EstbenchError, match="closed form"):
        estimators.create(name)(objective)
    assert "linear layers" in estimators.requires(name)


def test_estimators_of_normal_latents_are_for_it_and_others_are_not():
    problem, _ = made()
    for name in ("reparam", "stl", "rloo", "measure-valued"):
        estimators.create_for(name, problem)
    with pytest.raises(EstbenchError, match="bernoulli"):
        estimators.create_for("disarm", problem)
