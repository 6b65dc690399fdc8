"""The Gumbel-softmax family: what is biased and what is not, and what averaging over the noise gains."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from oracles.enumeration import DECODER, EXPONENTIAL, QUADRATIC, named
from torch.distributions import RelaxedOneHotCategorical, kl_divergence

from estbench import estimators
from estbench.certify import run_bias_tests
from estbench.certify.sampling import sample_gradients
from estbench.estimators._noise import gumbel_perturbed, gumbel_perturbed_given_argmax
from estbench.estimators.discrete.gapped import gapped_logits
from estbench.estimators.discrete.gumbel_softmax import concrete_log_density

CATEGORICAL = [QUADRATIC[1], EXPONENTIAL[1], DECODER[1]]
HARD = ("st-gumbel", "gumbel-rao", "gapped-st")
SOFT = ("gumbel-softmax", "gumbel-softmax[kl=concrete]")
COORDINATES = 200  # more than all z-scores that an estimator is judged by here


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("variant", HARD)
@pytest.mark.parametrize("problem", **named(EXPONENTIAL))
def test_a_hard_sample_biases_the_encoder_alone(variant, problem):
    """Each by more than 2 % of the gradient's norm; powered z-tests with a false alarm of 1e-4 each."""
    verdicts = {test.group: test for test in run_bias_tests(estimators.create(variant), problem, COORDINATES)}
    assert not verdicts["logits"].unbiased
    assert verdicts["logits"].bias > 0.02
    assert verdicts["weights"].unbiased


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("variant", SOFT)
@pytest.mark.parametrize("problem", **named(CATEGORICAL[:1]))
def test_a_soft_sample_biases_the_decoder_as_well(variant, problem):
    """An estimator for another model: 2 % at least of either gradient."""
    tests = {test.group: test for test in run_bias_tests(estimators.create(variant), problem, COORDINATES)}
    for group in ("logits", "weights"):
        assert not tests[group].unbiased
        assert tests[group].bias > 0.02


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("problem", **named([*QUADRATIC, *DECODER]))
def test_averaging_over_the_noise_given_the_sample_keeps_the_mean_and_lowers_the_variance(problem, temperature):
    """Independent draws; z-scores of mean and variance per coordinate, each with a false alarm of 1e-6."""
    replicates = 20_000
    torch.manual_seed(0)
    plain, averaged = (
        sample_gradients(estimators.create(f"{name}[temperature={temperature}]"), problem, replicates)[
            "logits"
        ].flatten(1)
        for name in ("st-gumbel", "gumbel-rao")
    )

    def z(first, second):
        spread = (first.var(0) + second.var(0)) / replicates
        return (first.mean(0) - second.mean(0)) / spread.sqrt()

    assert z(plain, averaged).abs().max() < 4.9
    squares = [(draws - draws.mean(0)).square() for draws in (plain, averaged)]
    assert z(*squares).min() > 4.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_conditional_draw_has_its_argmax_where_it_was_given(dtype):
    """Always; logits of 30 apart included."""
    torch.manual_seed(0)
    logits = 30 * torch.rand(5, 4, dtype=dtype)
    drawn = torch.nn.functional.one_hot(gumbel_perturbed(logits, (10_000,)).argmax(-1), 4).to(dtype)
    anywhere = torch.eye(4, dtype=dtype)[torch.randint(4, (10_000, 5))]
    for one_hot in (drawn, anywhere):
        assert torch.equal(gumbel_perturbed_given_argmax(logits, one_hot).argmax(-1), one_hot.argmax(-1))


def test_the_concrete_density_is_torch_s_own_where_it_matters():
    """As a difference of two log-densities at one temperature, which is all that is used."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    q, p = (RelaxedOneHotCategorical(torch.tensor(0.7, dtype=a.dtype), logits=logits) for logits in (a, b))
    y = q.sample((5,))
    expected = q.log_prob(y) - p.log_prob(y)
    found = concrete_log_density(y.log(), a, 0.7) - concrete_log_density(y.log(), b, 0.7)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_concrete_kl_is_above_the_discrete_one():
    """The one-hot vector is a function of the relaxed one. Five standard errors: a false alarm of 3e-7 each."""
    torch.manual_seed(0)
    q = CATEGORICAL[0].latents.family(CATEGORICAL[0].params).base_dist
    p = torch.zeros_like(q.logits)
    log_y = (gumbel_perturbed(q.logits, (100_000,)) / 0.5).log_softmax(-1)
    sampled = concrete_log_density(log_y, q.logits, 0.5) - concrete_log_density(log_y, p, 0.5)
    error = sampled.std(0) / len(sampled) ** 0.5
    assert (sampled.mean(0) - 5 * error > kl_divergence(q, type(q)(logits=p))).all()


@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5])
def test_the_gap_is_between_the_drawn_category_and_every_other(gap):
    torch.manual_seed(0)
    logits = torch.randn(50, 4, dtype=torch.float64)
    hard = torch.eye(4, dtype=torch.float64)[torch.randint(4, (50,))]
    gapped = gapped_logits(logits, hard, gap)
    drawn, others = gapped[hard.bool()], gapped[~hard.bool()].view(50, 3)
    assert torch.equal(drawn, logits.amax(-1))
    assert (others <= drawn[:, None] - gap).all()
    # Those that are low enough stay where they are.
    before = logits[~hard.bool()].view(50, 3)
    low = before <= drawn[:, None] - gap
    assert torch.equal(others[low], before[low])


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_each_pass_has_its_own_temperature(problem):
    """At the same noise: a forward temperature of 1 changes no bit, and a lower one draws the likeliest more often."""

    def hard_samples(options):
        torch.manual_seed(0)
        seen = []
        leaves = problem.leaf_tensors(4000)
        objective = problem.objective(leaves)
        f = objective.f
        objective.f = lambda z, q=None: (seen.append(z.detach()), f(z, q))[1]
        surrogate = estimators.create(f"st-gumbel[{options}]")(objective)
        return seen[0], torch.autograd.grad(surrogate.sum(), [leaves["logits"]])[0]

    plain, first = hard_samples("temperature=0.7")
    same, second = hard_samples("temperature=0.7,forward_temperature=1.0")
    sharp, _ = hard_samples("forward_temperature=0.2")
    flat, _ = hard_samples("forward_temperature=9.0")
    assert torch.equal(plain, same)
    assert torch.equal(first, second)
    for samples, temperature in ((plain, 1.0), (sharp, 0.2), (flat, 9.0)):
        logits = problem.params["logits"] / temperature
        expected = logits.sigmoid() if samples.dim() == 4 else logits.softmax(-1)
        error = (samples.mean((0, 1)) - expected).abs() / (expected * (1 - expected) / 4000).sqrt()
        assert float(error.max()) < 5


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_the_backward_pass_does_not_depend_on_the_forward_temperature(problem):
    """Where f is linear its gradient is the same at every sample, and so is the estimate, draw by draw."""
    linear = dataclasses.replace(problem, integrand=lambda z, w: (w * z).sum(-1))
    drawn = []
    for temperature in (0.2, 1.0, 5.0):
        torch.manual_seed(0)
        drawn.append(sample_gradients(estimators.create(f"st-gumbel[forward_temperature={temperature}]"), linear, 50))
    for other in drawn[1:]:
        torch.testing.assert_close(drawn[0]["logits"], other["logits"], rtol=1e-12, atol=1e-14)
