"""Estimators of the multi-sample bound: exact means and variances, by enumeration and by quadrature.

An estimator that draws its K samples by one call is fed all that the call can return, each outcome a replicate, with
its probability: the weighted moments of its gradients are exact. Only what is really random is tested by z-scores.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from estbench import estimators, problems
from estbench.certify import run_bias_tests, small_problems_for
from estbench.certify.checks.unbiasedness import MIN_DETECTABLE_BIAS
from estbench.certify.problems.base import WEIGHTS
from estbench.errors import EstbenchError
from estbench.estimators.multi_sample._base import bound, excess, log_share_of_others, log_sum_of_others
from estbench.latents import states
from estbench.problems import Objective

PATHWISE = ("iwae", "stl-iwae", "dreg")
SIGNAL = ("vimco[baseline=signal]", "vimco[baseline=signal,mean=arithmetic]")
SCORE = (
    "reinforce-iwae",
    "vimco",
    "vimco[mean=arithmetic]",
    *SIGNAL,
    "ovis",
    "ovis[gamma=0.3]",
    "ovis[gamma=1]",
    "rws",
)
UNBIASED = [variant for variant in SCORE if estimators.create(variant).unbiased]
BIASED = [variant for variant in SCORE if not estimators.create(variant).unbiased]
DRAWN = ["iwae", "dreg", *UNBIASED]
FINITE = small_problems_for({"bernoulli", "categorical"}, {"multi-sample"})


def enumerated(variant, problem):
    """Exact mean and variance of each coordinate of the gradient, by group: (B, ...) each."""
    tuples = _tuples(problem)
    leaves = problem.leaf_tensors(tuples.shape[1])
    objective = problem.objective(leaves)
    objective.q.sample = lambda shape: tuples if tuple(shape) == (problem.importance_samples,) else None
    surrogate = estimators.create(variant).eval()(objective)
    found = torch.autograd.grad(surrogate.sum(), list(leaves.values()))
    probability = objective.q.log_prob(tuples).sum(0).exp().detach()
    torch.testing.assert_close(probability.sum(0), torch.ones(problem.examples).double())
    moments = {}
    for name, gradient in zip(leaves, found, strict=True):
        weight = probability.view(*probability.shape, *[1] * (gradient.dim() - 2))
        mean = (weight * gradient).sum(0)
        moments[name] = mean, (weight * (gradient - mean).square()).sum(0)
    return moments


def _tuples(problem):
    """All K-tuples of values of q as replicates, (K, N, B, *event)."""
    q = problem.objective(problem.leaf_tensors()).q
    values = states(q)
    count = problem.importance_samples
    index = torch.cartesian_prod(*[torch.arange(len(values))] * count).view(-1, count)
    chosen = values[index.T]  # (K, N, *event)
    return chosen.unsqueeze(2).expand(-1, -1, *q.batch_shape, *q.event_shape)


def trace(moments, problem):
    return sum(float(moments[name][1].sum()) for name in problem.params)


@pytest.mark.parametrize("problem", FINITE, ids=lambda problem: problem.name)
@pytest.mark.parametrize("variant", UNBIASED)
def test_the_expected_gradient_is_exact(variant, problem):
    exact = problem.exact_gradient()
    for group, (mean, _) in enumerated(variant, problem).items():
        torch.testing.assert_close(mean, exact[group], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("problem", FINITE, ids=lambda problem: problem.name)
@pytest.mark.parametrize("variant", BIASED)
def test_a_declared_bias_is_there_and_in_the_encoder_alone(variant, problem):
    """The decoder's gradient is that of the bound, whatever the encoder follows."""
    exact, found = problem.exact_gradient(), enumerated(variant, problem)
    torch.testing.assert_close(found[WEIGHTS][0], exact[WEIGHTS], rtol=1e-10, atol=1e-10)
    difference = (found["logits"][0] - exact["logits"]).norm() / exact["logits"].norm()
    assert float(difference) > MIN_DETECTABLE_BIAS


@pytest.mark.parametrize("problem", FINITE, ids=lambda problem: problem.name)
def test_the_bias_of_ovis_is_the_one_that_is_documented(problem):
    """gamma E[sum_k v_k s_k], which is gamma times the mean of reweighted wake-sleep."""
    exact, wake = problem.exact_gradient()["logits"], enumerated("rws", problem)["logits"][0]
    for gamma in (0.3, 1.0):
        mean = enumerated(f"ovis[gamma={gamma}]", problem)["logits"][0]
        torch.testing.assert_close(mean - exact, gamma * wake, rtol=1e-10, atol=1e-10)


# With a single other sample to make a baseline from, it may cost more than it saves.
@pytest.mark.parametrize(
    "problem", [problem for problem in FINITE if problem.importance_samples > 2], ids=lambda problem: problem.name
)
def test_baselines_from_the_other_samples_reduce_the_variance(problem):
    plain = trace(enumerated("reinforce-iwae", problem), problem)
    for variant in ("vimco", "vimco[mean=arithmetic]", "ovis"):
        assert trace(enumerated(variant, problem), problem) < plain


def test_the_baselines_are_those_of_the_equations():
    """By the formulas as printed, one sample at a time."""
    torch.manual_seed(0)
    log_w = torch.randn(4, 3, dtype=torch.float64)
    w = log_w.exp()
    for k in range(4):
        others = torch.cat([w[:k], w[k + 1 :]])
        geometric = others.log().mean(0).exp()
        torch.testing.assert_close(log_sum_of_others(log_w)[k].exp(), others.sum(0))
        guess = (log_w.sum(0) - log_w) / 3
        torch.testing.assert_close(log_sum_of_others(log_w, guess)[k].exp(), others.sum(0) + geometric)
    torch.testing.assert_close(bound(log_w), w.mean(0).log())


def test_weights_of_hundreds_of_nats_are_no_trouble():
    log_w = torch.tensor([[-900.0], [-100.0], [-890.0]])
    assert log_sum_of_others(log_w).isfinite().all()
    assert float(log_sum_of_others(log_w)[1]) == pytest.approx(-890 + math.log1p(math.exp(-10)))


@pytest.mark.parametrize(("spread", "count"), [(0.3, 1024), (3.0, 16), (300.0, 4)])
def test_what_a_sample_adds_keeps_its_digits_in_single_precision(spread, count):
    """Where it is 1e-6 beside bounds of 500 nats, as where one sample has all the weight."""
    torch.manual_seed(0)
    log_w = spread * torch.randn(count, 7) - 500
    found = excess(log_share_of_others(log_w)).double()
    log_w = log_w.double()
    expected = log_w.logsumexp(0) - log_sum_of_others(log_w) - log_w.softmax(0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)
    assert float(expected.max()) > 1e-6


def test_the_signal_s_baseline_is_the_signal_with_the_guess_in_place_of_the_weight():
    """By its definition, one sample at a time."""
    torch.manual_seed(0)
    log_w = torch.randn(4, 3, dtype=torch.float64)

    def signal(w, k):
        return (w.mean(0)).log() - w[k] / w.sum(0)

    for mean in ("geometric", "arithmetic"):
        found = estimators.create(f"vimco[baseline=signal,mean={mean}]")._signal(log_w)
        for k in range(4):
            w = log_w.exp()
            others = torch.cat([w[:k], w[k + 1 :]])
            guess = others.log().mean(0).exp() if mean == "geometric" else others.mean(0)
            guessed = w.clone()
            guessed[k] = guess
            torch.testing.assert_close(found[k], signal(w, k) - signal(guessed, k), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", SIGNAL)
def test_where_q_is_the_posterior_a_baseline_of_the_whole_signal_leaves_no_variance(variant):
    """All weights are equal, and so is every guess: VIMCO's own baseline leaves -1/K."""
    loc, objective = gaussian_example(7)
    params = {"loc": torch.full_like(loc, 0.65).requires_grad_(), "log_scale": torch.full_like(loc, math.log(0.5) / 2)}
    exact = Objective(params, objective._family, objective._log_likelihood, objective._prior, importance_samples=5)
    (gradient,) = torch.autograd.grad(estimators.create(variant)(exact).sum(), [params["loc"]])
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-13)
    (noisy,) = torch.autograd.grad(estimators.create("vimco")(exact).sum(), [params["loc"]])
    assert float(noisy.abs().min()) > 1e-3


# --- the one-dimensional Gaussian example: p(z) = N(0, 1), x|z ~ N(z, 1), x = 1.3, q = N(0.2, 0.8^2), K = 5 --------

SAMPLES = 5
NODES = 14  # on each of five axes; 10 and 18 give the same seven digits


class FixedNoise(Independent):
    """A normal whose draws are loc + scale * noise for a given noise, (K, R)."""

    def __init__(self, loc, scale, noise):
        super().__init__(Normal(loc, scale), 1)
        self.noise = noise

    def rsample(self, sample_shape=()):
        assert tuple(sample_shape) == self.noise.shape[:1]
        return self.base_dist.loc + self.base_dist.scale * self.noise[..., None, None]

    def sample(self, sample_shape=()):
        return self.rsample(sample_shape).detach()


def gaussian_example(replicates, noise=None):
    loc = torch.full((replicates, 1, 1), 0.2, dtype=torch.float64, requires_grad=True)
    log_scale = torch.full_like(loc, math.log(0.8))

    def family(params):
        mean, scale = params["loc"], params["log_scale"].exp()
        return Independent(Normal(mean, scale), 1) if noise is None else FixedNoise(mean, scale, noise)

    def log_likelihood(z):
        return Normal(z, 1.0).log_prob(torch.tensor(1.3, dtype=torch.float64)).sum(-1)

    def prior():
        return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

    return loc, Objective(
        {"loc": loc, "log_scale": log_scale}, family, log_likelihood, prior, importance_samples=SAMPLES
    )


def gaussian_gradients(variant, replicates, noise=None):
    loc, objective = gaussian_example(replicates, noise)
    (gradient,) = torch.autograd.grad(estimators.create(variant)(objective).sum(), [loc])
    return gradient.flatten()


def by_quadrature(variant):
    """Mean and variance of the gradient with respect to loc, exact to the quadrature."""
    points, masses = np.polynomial.hermite_e.hermegauss(NODES)
    noise = torch.cartesian_prod(*[torch.from_numpy(points)] * SAMPLES)
    mass = torch.cartesian_prod(*[torch.from_numpy(masses / masses.sum())] * SAMPLES).prod(1)
    gradients = gaussian_gradients(variant, len(noise), noise.T.contiguous())
    mean = float(mass @ gradients)
    return mean, float(mass @ (gradients - mean).square())


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("variant", "mean", "variance"),
    [("iwae", 0.1637, 0.558), ("dreg", 0.1637, 0.0022), ("stl-iwae", 0.739, 0.027)],
)
def test_pathwise_gradients_of_the_gaussian_example_have_the_known_moments(variant, mean, variance):
    """To the digits that are known; the bias of stl-iwae is 4.5 times the truth."""
    found = by_quadrature(variant)
    assert found[0] == pytest.approx(mean, abs=0.5e-3 if variant == "stl-iwae" else 1e-4)
    assert found[1] == pytest.approx(variance, abs={0.558: 2e-3, 0.0022: 5e-5, 0.027: 5e-4}[variance])


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("variant", DRAWN)
def test_draws_on_the_gaussian_example_have_the_mean_of_the_quadrature(variant, largest_z):
    """400,000 draws each; the chance of any false alarm among them all is 1e-4."""
    torch.manual_seed(1)
    draws = gaussian_gradients(variant, 400_000)
    z = (float(draws.mean()) - by_quadrature("dreg")[0]) / float(draws.std() / math.sqrt(len(draws)))
    assert abs(z) < largest_z(len(DRAWN))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("variant", ["stl-iwae", "ovis[gamma=1]", "rws"])
def test_draws_on_the_gaussian_example_show_the_declared_biases(variant):
    torch.manual_seed(1)
    draws = gaussian_gradients(variant, 100_000)
    z = (float(draws.mean()) - by_quadrature("dreg")[0]) / float(draws.std() / math.sqrt(len(draws)))
    assert abs(z) > 20


def test_where_q_is_the_posterior_dreg_has_no_variance():
    """All weights are then equal to p(x), whatever was drawn: so is the path gradient of each, zero."""
    loc, objective = gaussian_example(7)
    params = {"loc": torch.full_like(loc, 0.65).requires_grad_(), "log_scale": torch.full_like(loc, math.log(0.5) / 2)}
    exact = Objective(params, objective._family, objective._log_likelihood, objective._prior, importance_samples=5)
    (gradient,) = torch.autograd.grad(estimators.create("dreg")(exact).sum(), [params["loc"]])
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)


# --- what they declare, and what they need ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*PATHWISE, "vimco", "ovis"])
def test_normal_problems_pass_the_powered_test_or_show_the_bias(variant):
    estimator = estimators.create(variant)
    for problem in small_problems_for({"normal"}, {"multi-sample"}):
        for test in run_bias_tests(estimator, problem, coordinates=100):
            assert test.detectable <= problem.detectable
            assert test.unbiased == (estimator.unbiased or test.group not in problem.params)


@pytest.mark.parametrize("variant", [*PATHWISE, *SCORE])
def test_one_evaluation_for_each_importance_sample(variant):
    estimator = estimators.create(variant)
    for problem in small_problems_for(estimator.supports, estimator.bounds):
        objective = problem.objective(problem.leaf_tensors())
        surrogate = estimator(objective)
        assert surrogate.shape == objective.batch_shape
        assert estimator.count_evaluations(objective) == problem.importance_samples
        assert objective.evaluations == problem.importance_samples * problem.examples


@pytest.mark.parametrize("variant", [*PATHWISE, *SCORE])
def test_the_decoder_s_gradient_is_weighted_by_the_normalised_weights(variant):
    """Neither lost nor doubled: sum_k v_k grad log p(x|z_k) over the estimator's own samples."""
    estimator = estimators.create(variant)
    problem = small_problems_for(estimator.supports, estimator.bounds)[0]
    leaves = problem.leaf_tensors()
    torch.manual_seed(2)
    (found,) = torch.autograd.grad(estimator(problem.objective(leaves)).sum(), [leaves[WEIGHTS]])
    torch.manual_seed(2)
    objective = problem.objective(leaves)
    z = objective.q.sample((problem.importance_samples,))
    v = objective.log_weight(z).softmax(0).detach()
    (expected,) = torch.autograd.grad((v * objective._log_likelihood(z)).sum(), [leaves[WEIGHTS]])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", ["vimco", "vimco[mean=arithmetic]", "ovis"])
def test_one_importance_sample_has_no_others_to_compare_with(variant):
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[4]]")
    x = torch.from_numpy(problem.data.train[:2])
    with pytest.raises(EstbenchError, match="needs at least 2; the objective has importance_samples=1"):
        estimators.create(variant)(problem(x))


@pytest.mark.parametrize("options", ["", "importance_samples=1"])
def test_they_are_not_for_the_elbo(options):
    problem = problems.PROBLEMS.get("vae")
    with pytest.raises(EstbenchError, match=r"'dreg' is for the multi-sample objective.*importance_samples decides"):
        estimators.check_supports(
            estimators.ESTIMATORS.get("dreg"),
            problem,
            problems.PROBLEMS.options(f"vae[{options}]" if options else "vae"),
        )


def test_a_bias_that_the_options_bring_is_declared():
    assert estimators.create("ovis").facts()["unbiased"]
    assert not estimators.create("ovis[gamma=1]").facts()["unbiased"]
    assert not estimators.create("ovis[gamma=0.1]").unbiased
