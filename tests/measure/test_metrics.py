"""Metrics: what may be registered, what may be returned, and that a measurement leaves no trace."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from estbench import EstbenchError, estimators, measure, problems
from estbench.measure import METRICS, evaluate_metric, register_metric

pytestmark = pytest.mark.usefixtures("forgetful_registries")

VAE = "vae[dataset=digits,hidden=[8],latent_size=2]"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    problem = problems.create(VAE)
    x = problem.observe(torch.from_numpy(problem.data.test[:20]), torch.Generator().manual_seed(0))
    return problem, estimators.create("reparam"), x


def returning(value):
    @register_metric("mine")
    def mine(problem, estimator, x):
        """Return what the test says."""
        return value

    return "mine"


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (1, {"mine": 1.0}),
        (0.5, {"mine": 0.5}),
        (torch.tensor(0.5), {"mine": 0.5}),
        (torch.tensor([[3]]), {"mine": 3.0}),
        (np.float32(0.5), {"mine": 0.5}),
        (np.int64(2), {"mine": 2.0}),
        (10**400, {"mine": math.inf}),
        ({"a": 1, "b-2": torch.tensor(2.0)}, {"mine/a": 1.0, "mine/b-2": 2.0}),
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_floats(model, value, numbers):
    found = evaluate_metric(returning(value), *model, seed=0)
    assert found == numbers
    assert {type(each) for each in found.values()} == {float}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "returns NoneType; return a number"),
        ("0.5", "returns str"),
        (True, "returns bool"),
        (1j, "returns complex"),
        ([0.5], "returns list"),
        (torch.zeros(2), r"a tensor of shape \(2,\)"),
        (torch.tensor(1j), "a tensor of shape"),
        ({}, "returns 0 numbers"),
        ({str(number): 0.0 for number in range(1000)}, "returns 1000 numbers"),
        ({"a": "x"}, "returns str"),
        ({"A b": 1.0}, "calls a number 'A b'"),
        ({1: 1.0}, "calls a number 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_anything_else_is_an_error(model, value, complaint):
    with pytest.raises(EstbenchError, match=f"the metric 'mine' .*{complaint}"):
        evaluate_metric(returning(value), *model, seed=0)


@pytest.mark.parametrize(
    ("name", "facts", "complaint"),
    [
        ("elbo", {}, "one of estbench's own curves"),
        ("My Metric", {}, "invalid metric name"),
        ("sigma", {}, "exists already"),
        ("mine", {"better": "lowest"}, "better is 'lowest'; write 'higher', 'lower' or None"),
        ("mine", {"splits": ("tset",)}, "name some of train, validation, test"),
        ("mine", {"splits": ()}, "name some of train"),
        ("mine", {"label": 3}, "label and unit are texts"),
    ],
)
def test_what_cannot_be_registered(name, facts, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        register_metric(name, **facts)(lambda problem, estimator, x: 0.0)


def test_the_facts_of_a_metric_and_their_defaults():
    returning(0.0)
    assert measure.describe_metric("mine") == {
        "name": "mine",
        "kind": "metric",
        "summary": "Return what the test says.",
        "label": "mine",
        "unit": "",
        "better": None,
        "splits": ["train", "validation", "test"],
        "documentation": "Return what the test says.",
    }
    METRICS.register("bare")(lambda problem, estimator, x: 0.0)  # as an entry point does
    assert measure.describe_metric("bare")["label"] == "bare"
    with pytest.raises(EstbenchError, match="unknown metric 'sigmo'; did you mean 'sigma'"):
        measure.describe_metric("sigmo")


def test_it_is_measured_in_eval_mode_without_gradients_and_leaves_no_trace(model):
    problem, estimator, x = (copy.deepcopy(each) for each in model)
    problem.train()
    before, observed = copy.deepcopy(problem.state_dict()), x.clone()
    torch.manual_seed(5)
    state = torch.get_rng_state()

    @register_metric("mine")
    def rude(problem, estimator, x):
        assert not problem.training
        assert not estimator.training
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            problem(x).kl().sum().backward()
        for weight in problem.parameters():
            weight.data.zero_()
        problem.requires_grad_(requires_grad=False)
        problem.train()
        problem.extra = 1
        x.zero_()
        return torch.rand(())

    first, second, other = (evaluate_metric("mine", problem, estimator, x, seed)["mine"] for seed in (0, 0, 1))
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, observed)
    assert all(torch.equal(value, before[name]) for name, value in problem.state_dict().items())
    assert problem.training
    assert all(weight.requires_grad and weight.grad is None for weight in problem.parameters())
    assert not hasattr(problem, "extra")


def test_the_error_of_reconstructions(model):
    problem, estimator, x = model
    found = evaluate_metric("reconstruction_error", problem, estimator, x, seed=0)["reconstruction_error"]
    torch.manual_seed(0)
    with torch.no_grad():
        z = problem(x).q.sample()
        images = problem.decode(z).clamp(0, 1)
    assert found == pytest.approx(float(((images - x) ** 2).mean()))


def test_the_learned_sigma(model):
    problem = problems.create(f"{VAE[:-1]},likelihood=gaussian]")
    found = evaluate_metric("sigma", problem, *model[1:], seed=0)
    assert found == {"sigma": pytest.approx(float(problem.data.train.std()))}
    with pytest.raises(EstbenchError, match="'vae' has no learned sigma; leave out the metric sigma"):
        evaluate_metric("sigma", *model, seed=0)


def test_a_problem_without_images_has_no_reconstructions(model):
    problem = problems.create("gaussian_toy")
    with pytest.raises(EstbenchError, match="makes no images; leave out the metric"):
        evaluate_metric("reconstruction_error", problem, model[1], torch.zeros(3, 1), seed=0)
