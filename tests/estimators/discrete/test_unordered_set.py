"""The unordered set estimator, sum-and-sample and top-k: their means summed over all that can be drawn."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from oracles.enumeration import (
    DECODER,
    EXPONENTIAL,
    QUADRATIC,
    Enumerated,
    distribution_and_states,
    estimate,
    indices_of,
    named,
    ordered_probability,
    over_ordered_draws,
    over_samples,
)

from estbench import estimators
from estbench.estimators._product_space import most_probable
from estbench.estimators.discrete import sum_and_sample, unordered_set
from estbench.estimators.discrete.unordered_set import leave_one_out_ratios

FINITE = [*QUADRATIC, *EXPONENTIAL, *DECODER]
BASELINES = {"unordered-set": "built-in", "sum-and-sample": "sum"}
MODULES = {"unordered-set": unordered_set, "sum-and-sample": sum_and_sample}


def enumerated(name, problem, draws, monkeypatch, baseline=None):
    baseline = baseline or BASELINES[name]
    estimator = estimators.create(f"{name}[num_samples={draws},baseline={baseline}]")
    return over_ordered_draws(estimator, problem, draws, monkeypatch, MODULES[name])


def over_outside(estimator, problem, monkeypatch):
    """Top-k for all that its one random value can be."""
    q, values = distribution_and_states(problem)
    indices = indices_of(values)
    logits = problem.params["logits"]
    log_p = logits.log_softmax(-1) if logits.dim() == 3 else torch.stack([-logits, logits], -1).div(2).log_softmax(-1)
    best = most_probable(log_p, estimator.options.top)  # (k, B, D)
    excluded = (indices[:, None, None] == best).all(-1).any(1)  # (N, B)
    p = q.log_prob(values[:, None]).exp().masked_fill(excluded, 0)
    # Where a value is one of the best, its place is taken by another, with no probability.
    free = (~excluded).long().argmax(0)
    chosen = torch.where(excluded, free, torch.arange(len(values))[:, None])
    monkeypatch.setattr(sum_and_sample, "sample_excluding", lambda log_p, top: indices[chosen][None])
    return Enumerated(estimate(estimator, problem, len(values)), p / p.sum(0))


@pytest.mark.parametrize("baseline", ["with", "none"])
@pytest.mark.parametrize("draws", [2, 3])
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_expected_gradient_is_exact(problem, name, draws, baseline, monkeypatch):
    """Summed over all ordered draws, up to 504 of them."""
    baseline = "none" if baseline == "none" else BASELINES[name]
    enumerated(name, problem, draws, monkeypatch, baseline).assert_exact(problem)


@pytest.mark.parametrize("variant", ["top-k[top=1]", "top-k", "top-k[baseline=none]"])
@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_expected_gradient_of_top_k_is_exact(problem, variant, monkeypatch):
    over_outside(estimators.create(variant), problem, monkeypatch).assert_exact(problem)


@pytest.mark.parametrize("problem", **named(FINITE))
def test_the_order_of_the_draws_is_averaged_out(problem, monkeypatch):
    """Rao-Blackwell: without baselines the variance is at most that of sum-and-sample, in either gradient."""
    with_order, without = (
        enumerated(name, problem, 3, monkeypatch, "none") for name in ("sum-and-sample", "unordered-set")
    )
    for group in ("logits", "weights"):
        assert without.variance(group) < with_order.variance(group)


@pytest.mark.parametrize("name", ["unordered-set[num_samples=8]", "top-k[top=7]", "sum-and-sample[num_samples=8]"])
def test_with_all_values_it_is_the_sum_over_them(name):
    """Three bits, eight values: every draw is the exact gradient, to rounding."""
    problem = DECODER[0]
    found = estimate(estimators.create(name), problem, 20)
    for group, exact in problem.exact_gradient().items():
        torch.testing.assert_close(found[group], exact.expand(20, *exact.shape), rtol=1e-9, atol=1e-11)


def chance_of_set(q, subset, removed=0.0):
    """p(S) by its definition: the sum over all orders, drawn after a mass of ``removed`` is gone."""
    p = torch.stack([q[list(order)] for order in itertools.permutations(subset)], 1) / (1 - removed)
    return ordered_probability(p).sum()


def test_the_ratios_are_those_of_their_definition():
    q = torch.tensor([0.4, 0.05, 0.2, 0.15], dtype=torch.float64)  # and 0.2 outside of S
    places = set(range(4))
    first, second = leave_one_out_ratios(q.log())
    for s in places:
        after = chance_of_set(q, places - {s}, float(q[s]))
        assert float(first[s]) == pytest.approx(float(q[s] * after / chance_of_set(q, places)), rel=1e-12)
        for t in places:
            later = chance_of_set(q, places - {s, t}, float(q[s] + q[t])) / after if s != t else 1
            assert float(second[s, t]) == pytest.approx(float(q[t] * later), rel=1e-12)
    torch.testing.assert_close(first.sum(), torch.tensor(1.0).double())
    torch.testing.assert_close(second.sum(1), torch.ones(4).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ratios_are_accurate_where_q_is_tiny(dtype):
    """1e-20 each: the weights of leave-one-out among equals."""
    first, second = leave_one_out_ratios(torch.full((4, 1), -46.0, dtype=dtype))
    torch.testing.assert_close(first, torch.full((4, 1), 1 / 4, dtype=dtype))
    torch.testing.assert_close(second[..., 0], (1 - torch.eye(4, dtype=dtype)) / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ratios_are_accurate_where_the_set_has_all_the_mass(dtype):
    """What is outside cannot be told from rounding: the weights are q itself."""
    q = torch.tensor([1.0, 1e-9, 1e-12, 1e-20], dtype=dtype)[:, None]
    first, second = leave_one_out_ratios(q.log())
    torch.testing.assert_close(first, q, rtol=1e-4, atol=0)
    torch.testing.assert_close(second.sum(1), torch.ones(4, 1, dtype=dtype))


def test_where_no_value_has_mass_it_is_rloo(monkeypatch):
    """Twenty latents of ten categories at uniform q: the same gradient from the same four samples, to 1e-12."""
    problem = dataclasses.replace(
        DECODER[1],
        latents=type(DECODER[1].latents)(20, 10),
        params={"logits": torch.zeros(2, 20, 10, dtype=torch.float64)},
        weights=torch.linspace(-1, 1, 400, dtype=torch.float64).view(2, 200),
    )
    torch.manual_seed(0)
    indices = torch.randint(10, (4, 3, 2, 20))
    monkeypatch.setattr(unordered_set, "sample_without_replacement", lambda log_p, count: indices)
    found = estimate(estimators.create("unordered-set"), problem, 3)
    sample = torch.nn.functional.one_hot(indices, 10).double()
    expected = estimate(estimators.create("rloo[num_samples=4]"), problem, 3, sample)
    for group in found:
        torch.testing.assert_close(found[group], expected[group], rtol=1e-12, atol=1e-12)


# --- the toy of Liu et al. (2019) and Kool et al. (2020): three bits that share one logit -------------------------

P = torch.tensor([0.6, 0.51, 0.48], dtype=torch.float64)


def toy(logit):
    """f(b) = sum_i (b_i - p_i)^2; the gradient of the shared logit is the sum of those of the three."""
    return dataclasses.replace(
        QUADRATIC[0],
        params={"logits": torch.full((1, 3), logit, dtype=torch.float64)},
        weights=P[None],
        integrand=lambda z, w: (z - w).square().sum(-1),
    )


def shared(found):
    """Enumerated gradients of the one logit."""
    return Enumerated({"logit": found.gradients["logits"].sum(-1)}, found.probabilities)


@pytest.mark.parametrize("logit", [0.0, -4.0])
def test_liu_s_toy(logit, monkeypatch):
    """At equal evaluations, three: exact variances by enumeration, in the order that the papers show."""
    problem = toy(logit)
    exact = problem.exact_gradient()["logits"].sum(-1)
    found = {
        "reinforce": shared(over_samples(estimators.create("reinforce"), problem)),
        "sum-and-sample": shared(enumerated("sum-and-sample", problem, 3, monkeypatch)),
        "unordered-set": shared(enumerated("unordered-set", problem, 3, monkeypatch)),
        "top-k": shared(over_outside(estimators.create("top-k[top=2]"), problem, monkeypatch)),
    }
    for outcomes in found.values():
        torch.testing.assert_close(outcomes.mean("logit"), exact, rtol=1e-10, atol=1e-13)
    variance = {name: outcomes.variance("logit") for name, outcomes in found.items()}
    variance["three reinforce"] = variance.pop("reinforce") / 3
    assert variance["unordered-set"] < variance["sum-and-sample"] < variance["three reinforce"]
    assert variance["top-k"] < variance["three reinforce"]
    if logit == -4.0:
        # One value has 94.7 % of the mass: what is summed is nearly everything.
        assert variance["top-k"] < 0.05 * variance["three reinforce"]
