"""Baselines from the example's own group of samples: GRPO's and Dr. GRPO's, beside leave-one-out."""

from __future__ import annotations

import pytest
import torch

from estbench import estimators
from estbench.certify.problems import SMALL
from estbench.certify.sampling import sample_gradients
from estbench.errors import EstbenchError
from estbench.estimators.score_function import group_advantage

SAMPLED = [problem for problem in SMALL if problem.bound == "elbo" and not problem.analytic_kl]


def drawn(variant, problem):
    torch.manual_seed(5)
    return sample_gradients(estimators.create(variant), problem, 50)


@pytest.mark.parametrize("samples", [2, 3, 8])
@pytest.mark.parametrize("problem", SAMPLED, ids=lambda problem: problem.name)
def test_the_group_s_mean_is_leave_one_out_times_one_less_a_share(problem, samples):
    """Draw by draw, for the parameters of q; the model's own gradient is the same. The KL is in f here."""
    ours = drawn(f"reinforce[baseline=group,num_samples={samples}]", problem)
    theirs = drawn(f"rloo[num_samples={samples}]", problem)
    for group, gradient in theirs.items():
        factor = 1 - 1 / samples if group in problem.params else 1.0
        torch.testing.assert_close(ours[group], factor * gradient, rtol=1e-10, atol=1e-12)


def test_an_analytic_kl_is_neither_shortened_nor_divided():
    """If f is a constant, only the KL's gradient is left, and it is exact."""
    problem = next(problem for problem in SMALL if problem.name == "bernoulli, quadratic, analytic KL")
    constant = type(problem)(
        "constant", problem.latents, problem.params, problem.weights, lambda z, w: w.sum(-1).expand(z.shape[:-1]), True
    )
    for standardise in ("false", "true"):
        found = drawn(f"reinforce[baseline=group,num_samples=3,standardise={standardise}]", constant)["logits"]
        torch.testing.assert_close(found, constant.exact_gradient()["logits"].expand_as(found), rtol=1e-12, atol=1e-15)


def test_standardised_advantages_have_mean_zero_and_deviation_one():
    f = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = group_advantage(f, standardise=True)
    torch.testing.assert_close(found, (f - f.mean(0)) / f.std(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, group_advantage(5 * f - 300, standardise=True), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(group_advantage(f, standardise=False), f - f.mean(0), rtol=1e-12, atol=1e-15)


def test_equal_values_give_no_advantage_and_no_rounding_of_one():
    """The mean of three equal numbers is not always that number; divided by its own size, the rest would be about 1."""
    generator = torch.Generator().manual_seed(0)
    f = (100 * torch.randn(1000, generator=generator)).expand(3, 1000)
    assert ((f - f.mean(0)) != 0).any(), "there is rounding to look at"
    assert (group_advantage(f, standardise=True) == 0).all()


@pytest.mark.parametrize("value", [1e-30, 1e30])
def test_tiny_and_huge_differences_are_standardised_or_dropped(value):
    f = value * torch.tensor([0.0, 1.0, 2.0])
    found = group_advantage(f, standardise=True)
    assert found.isfinite().all()


def test_facts_and_options():
    for variant in (
        "reinforce[baseline=group,num_samples=2]",
        "reinforce[baseline=group,num_samples=2,standardise=true]",
    ):
        assert not estimators.create(variant).unbiased
    assert estimators.create("reinforce[num_samples=2]").unbiased
    assert "standardise" not in estimators.create("reinforce").options.model_dump()
    with pytest.raises(EstbenchError, match="set num_samples to 2 or more"):
        estimators.create("reinforce[baseline=group]")
    with pytest.raises(EstbenchError, match="'standardise' has no effect with baseline=none; drop it"):
        estimators.create("reinforce[standardise=true]")
