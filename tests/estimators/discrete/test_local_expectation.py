"""Local expectation gradients: exact in the mean, by enumeration; without variance where latents do not interact."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles.discrete_objectives import BITS, ONE_HOT, enumerated, enumerated_problem, name_of, objective_of, prepared
from oracles.enumeration import Enumerated, distribution_and_states, estimate

from estbench import estimators


@pytest.mark.parametrize("problem", [*BITS, *ONE_HOT], ids=name_of)
def test_the_mean_over_all_samples_is_the_exact_gradient(problem):
    estimator = prepared("local-expectation", problem.objective(problem.leaf_tensors()))
    for found, exact in enumerated_problem(estimator, problem, samples=1).values():
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("categories", [None, 4])
def test_no_variance_where_f_is_a_sum_over_latents(categories):
    torch.manual_seed(1)
    shape = (2, 3) if categories is None else (2, 3, categories)
    logits, slope = torch.randn(shape, dtype=torch.float64), torch.randn(shape[1:], dtype=torch.float64)

    def f(z):
        terms = z * slope if categories is None else (z * slope).sum(-1)
        return (terms.exp() + terms).sum(-1)

    estimator = prepared("local-expectation", objective_of(logits, f, categories))
    mean, variance = enumerated(estimator, logits, f, 1, categories)
    leaf = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(objective_of(leaf, f, categories).exact().sum(), [leaf])
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-12)
    assert variance.max() < 1e-26


@pytest.mark.parametrize(("shape", "categories", "evaluations"), [((2, 5), None, 6), ((2, 3, 4), 4, 10)])
def test_one_evaluation_for_the_sample_and_one_for_every_neighbour(shape, categories, evaluations):
    objective = objective_of(torch.zeros(shape, requires_grad=True), lambda z: z.flatten(2).sum(-1), categories)
    estimator = prepared("local-expectation", objective)
    assert estimator.count_evaluations(objective) == evaluations
    estimator(objective)
    assert objective.evaluations == evaluations * 2


@pytest.mark.parametrize("flipped", [1, 2])
@pytest.mark.parametrize("problem", [*BITS, *ONE_HOT], ids=name_of)
def test_with_some_latents_flipped_the_mean_is_exact(problem, flipped, monkeypatch):
    """Over all samples and all sets of K latents: those with the largest of the numbers that are drawn."""
    q, values = distribution_and_states(problem)
    sets = list(itertools.combinations(range(values.shape[1]), flipped))
    scores = torch.tensor([[float(latent in chosen) for latent in range(values.shape[1])] for chosen in sets]).double()
    examples = len(problem.weights)
    monkeypatch.setattr(
        torch, "rand", lambda *shape, **_: scores.repeat(len(values), 1)[:, None].expand(-1, examples, -1)
    )
    sample = values.repeat_interleave(len(sets), 0)[None, :, None].expand(1, -1, examples, *q.event_shape)
    estimator = estimators.create(f"local-expectation[flipped={flipped}]")
    gradients = estimate(estimator, problem, len(values) * len(sets), sample)
    Enumerated(gradients, q.log_prob(sample[0]).exp() / len(sets)).assert_exact(problem)


@pytest.mark.parametrize(("flipped", "count"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_as_many_latents_are_flipped_as_there_are(flipped, count):
    problem = BITS[0]  # three bits
    estimator, objective = (
        estimators.create(f"local-expectation[flipped={flipped}]"),
        problem.objective(problem.leaf_tensors()),
    )
    estimator(objective)
    assert estimator.count_evaluations(objective) == count + 1
    assert objective.evaluations == (count + 1) * len(problem.weights)
    assert estimator.evaluations == f"min({flipped}, D)(C-1)+1"
