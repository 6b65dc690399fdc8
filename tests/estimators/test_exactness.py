"""Every unbiased estimator has the exact gradient as its mean, and the variance that theory says.

Two kinds of proof, on Gaussian toys with closed forms. *By quadrature*: the estimator is fed with Gauss-Hermite nodes
in place of random numbers, and the weighted sum of its gradients is its expectation, to rounding. *By sampling*:
z-tests per coordinate, with a family-wise false alarm of 1e-4, on what the estimator really draws.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from estbench import estimators
from estbench.estimators import Estimator
from estbench.estimators.score_function import leave_one_out_mean, score_function_surrogate
from estbench.problems import Objective

TOYS = ("quadratic", "cosine", "bump")
KLS = ("analytic", "sampled")
EXTRA = (
    "reinforce[num_samples=3]",
    "reinforce[baseline=ema]",
    "reinforce[baseline=ema,num_samples=2,decay=0.5]",
    "reinforce[baseline=nvil,hidden=5]",
    "rloo[num_samples=4]",
)


NORMAL = [name for name in (*estimators.names(), *EXTRA) if "normal" in estimators.create(name).supports]
UNBIASED = [variant for variant in NORMAL if estimators.create(variant).unbiased]
BIASED = [variant for variant in NORMAL if not estimators.create(variant).unbiased]


class IncludesItself(Estimator):
    """RLOO gone wrong: the baseline is the mean of *all* samples, so the gradient shrinks by (S - 1) / S."""

    evaluations = 5

    def forward(self, objective):
        z = objective.q.sample((5,))
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f - f.mean(0))


class DoublesTheDecoder(Estimator):
    """Score function gone wrong: f is added once for itself and once for its value."""

    evaluations = 1

    def forward(self, objective):
        z = objective.q.sample((1,))
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f) + f.mean(0)


MUTANTS = (IncludesItself, DoublesTheDecoder)


# --- by quadrature ------------------------------------------------------------------------------------------------

# Estimators that draw all their samples by one call. Two samples are the most that a fine grid has room for; the
# integrand of a quadratic toy is a polynomial, for which ten nodes a sample are exact.
ONE_CALL = ("reparam", "stl", "reinforce", "rloo", *EXTRA)
QUADRATURE = [
    (variant, name)
    for variant in ONE_CALL
    for name in TOYS
    if name == "quadratic" or estimators.create(variant).evaluations <= 2
]


@pytest.mark.parametrize("kl", KLS)
@pytest.mark.parametrize(("variant", "name"), QUADRATURE)
def test_the_expected_gradient_is_exact(variant, name, kl, toy, quadrature):
    problem = toy(name, kl)
    estimator = problem.prepared(variant)
    noise, weights = quadrature(estimator.evaluations, 10 if name == "quadratic" else 100)
    gradients = problem.gradients(estimator, len(weights), noise)
    expected = (weights[:, None, None] * gradients).sum(0)
    torch.testing.assert_close(expected, problem.exact(), rtol=1e-9, atol=1e-9)


def test_quadrature_sees_the_shrinkage_of_a_baseline_that_includes_its_sample(toy, quadrature):
    problem = toy("quadratic", "none")
    noise, weights = quadrature(5, 6)
    gradients = problem.gradients(IncludesItself(), len(weights), noise)
    expected = (weights[:, None, None] * gradients).sum(0)
    exact = problem.exact()
    torch.testing.assert_close(expected[:2], 4 / 5 * exact[:2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(expected[2], exact[2], rtol=1e-9, atol=1e-9)


def variances(problem, estimator, noise, weights):
    """Exact variance of one gradient, (3, B)."""
    gradients = problem.gradients(estimator, len(weights), noise)
    mean = (weights[:, None, None] * gradients).sum(0)
    return (weights[:, None, None] * (gradients - mean).square()).sum(0)


# Closed forms for f = (z - k)^2 with d = m - k (Mohamed et al., 2020, and derived by hand), per unit of loc and of
# log_scale; the latter is s^2 times that per unit of s.
QUADRATIC = {
    "reinforce": (
        lambda d, s: d**4 / s**2 + 14 * d**2 + 15 * s**2,
        lambda d, s: s**2 * (2 * d**4 / s**2 + 60 * d**2 + 74 * s**2),
    ),
    "reparam": (lambda d, s: 4 * s**2, lambda d, s: s**2 * (4 * d**2 + 8 * s**2)),
    **{
        f"rloo[num_samples={n}]": (
            lambda d, s, n=n: (
                (10 * s**2 + 12 * d**2 - (n - 2) / (n - 1) * 4 * d**2 + (4 * d**2 + 2 * s**2) / (n - 1)) / n
            ),
            None,
        )
        for n in (2, 3, 4)
    },
}


def quadratic_variances(problem, variant):
    """The closed forms, (1 or 2, B)."""
    table = torch.tensor(problem.settings, dtype=torch.float64)
    d, s = table[:, 0] - table[:, 2], table[:, 1]
    return torch.stack([form(d, s) for form in QUADRATIC[variant] if form is not None])


@pytest.mark.parametrize("variant", QUADRATIC)
def test_the_variance_on_quadratics_is_the_closed_form(variant, toy, quadrature):
    problem = toy("quadratic", "none")
    estimator = problem.prepared(variant)
    found = variances(problem, estimator, *quadrature(estimator.evaluations, 8))
    expected = quadratic_variances(problem, variant)
    torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("offset", "loc", "log_scale"),
    [
        (lambda d, s: d**2 + s**2, lambda d, s: 8 * d**2 + 10 * s**2, None),  # the mean of f
        (lambda d, s: d**2 + 3 * s**2, lambda d, s: 8 * d**2 + 6 * s**2, None),  # the best constant for loc
        (lambda d, s: d**2 + 5 * s**2, None, lambda d, s: s**2 * (40 * d**2 + 24 * s**2)),  # ... and for log_scale
    ],
    ids=["mean", "best for loc", "best for log_scale"],
)
def test_a_constant_baseline_has_the_variance_of_the_closed_form(offset, loc, log_scale, toy, quadrature):
    noise, weights = quadrature(1, 8)
    for setting in toy("quadratic").settings:
        m, s, k = setting
        problem = toy("quadratic", "none", [setting])
        estimator = problem.prepared("reinforce[baseline=ema]")
        # A moving average of weight one is the constant that it holds.
        estimator.baseline.mean.fill_(offset(m - k, s))
        estimator.baseline.weight.fill_(1)
        found = variances(problem, estimator, noise, weights)
        for row, form in ((0, loc), (1, log_scale)):
            if form is not None:
                assert float(found[row]) == pytest.approx(form(m - k, s), rel=1e-10)


def cosine_variances(m, s, k):
    """Of the gradient with respect to loc: pathwise, score function."""
    true = -k * math.exp(-((k * s) ** 2) / 2) * math.sin(k * m)
    even = math.exp(-2 * (k * s) ** 2) * math.cos(2 * k * m)
    return k**2 / 2 * (1 - even) - true**2, (1 + (1 - 4 * (k * s) ** 2) * even) / (2 * s**2) - true**2


def bump_variances(m, s, k):
    """Of the gradient with respect to loc: pathwise, score function."""

    def mass(c):
        return (1 + 2 * c * s**2) ** -0.5 * math.exp(-c * m**2 / (1 + 2 * c * s**2))

    def centre(c):
        return -2 * c * s * m * spread(c)

    def spread(c):
        return 1 / (1 + 2 * c * s**2)

    true = mass(k) * centre(k) / s
    pathwise = 4 * k**2 * mass(2 * k) * ((m + s * centre(2 * k)) ** 2 + s**2 * spread(2 * k)) - true**2
    return pathwise, mass(2 * k) * (centre(2 * k) ** 2 + spread(2 * k)) / s**2 - true**2


FORMS = {"cosine": cosine_variances, "bump": bump_variances}


@pytest.mark.parametrize("name", FORMS)
def test_the_variance_on_cosines_and_bumps_is_the_closed_form(name, toy, quadrature):
    problem = toy(name, "none")
    expected = torch.tensor([FORMS[name](*setting) for setting in problem.settings], dtype=torch.float64).T
    for row, variant in enumerate(("reparam", "reinforce")):
        found = variances(problem, problem.prepared(variant), *quadrature(1, 100))
        torch.testing.assert_close(found[0], expected[row], rtol=1e-8, atol=1e-10)


def test_pathwise_is_not_always_the_less_noisy_one(toy, quadrature):
    """The crossover of Mohamed et al. (2020, fig. 3): cos(kz) at m = s = 1 turns against the path as k grows."""
    noise, weights = quadrature(1, 100)
    printed = {0.5: (0.0393, 0.4552), 1.0: (0.2677, 0.3240), 5.0: (12.5, 0.50)}
    for k, expected in printed.items():
        problem = toy("cosine", "none", [(1.0, 1.0, k)])
        found = [
            float(variances(problem, problem.prepared(variant), noise, weights)[0, 0])
            for variant in ("reparam", "reinforce")
        ]
        assert found == pytest.approx(expected, abs=5e-3 if k == 5 else 5e-5)


# --- by sampling --------------------------------------------------------------------------------------------------

DRAWS = 100_000


def z_scores(gradients, exact):
    """Of the mean gradient against the exact one, (3, B); and the standard errors."""
    error = gradients.std(0) / math.sqrt(len(gradients))
    difference = gradients.mean(0) - exact
    # Where there is no noise at all (a gradient that is constant) the difference must be rounding.
    score = torch.where(error > 1e-12, difference / error.clamp(min=1e-300), difference.abs() * 1e9)
    return score, error


@pytest.mark.parametrize("kl", KLS)
@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("variant", UNBIASED)
def test_the_mean_of_many_draws_is_the_exact_gradient(variant, name, kl, toy, largest_z):
    """n = 100,000 draws, 9 coordinates. Detected with probability 99 %: a bias of 2.33 + the bound, 7 errors.

    The mutants below are what a defect of ordinary size looks like; that they are seen is the proof of power.
    """
    problem = toy(name, kl)
    estimator = problem.prepared(variant)
    torch.manual_seed(11)
    score, _ = z_scores(problem.gradients(estimator, DRAWS), problem.exact())
    assert float(score.abs().max()) < largest_z(score.numel() * len(UNBIASED) * len(TOYS) * len(KLS))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("variant", [*BIASED, *MUTANTS], ids=lambda value: getattr(value, "__name__", value))
def test_a_bias_is_detected(variant, name, toy, largest_z):
    """The same test, at the same bound, must fail for estimators that are biased."""
    problem = toy(name, "analytic")
    estimator = problem.prepared(variant) if isinstance(variant, str) else variant().eval()
    torch.manual_seed(11)
    score, _ = z_scores(problem.gradients(estimator, DRAWS), problem.exact())
    allowed = largest_z(score.numel() * len(UNBIASED) * len(TOYS) * len(KLS))
    assert float(score.abs().max()) > allowed + 2.33


def test_detached_loses_the_path_and_nothing_else(toy, largest_z):
    """Its mean is the KL's gradient for the encoder and the exact gradient for the model's own weight."""
    problem = toy("quadratic", "analytic")
    whole, without_kl = problem.exact(), toy("quadratic", "none").exact()
    torch.manual_seed(12)
    gradients = problem.gradients(problem.prepared("detached"), DRAWS)
    torch.testing.assert_close(gradients.mean(0)[:2], (whole - without_kl)[:2], rtol=1e-10, atol=1e-10)
    score, _ = z_scores(gradients[:, 2:], whole[2:])
    assert float(score.abs().max()) < largest_z(score.numel())


def variance_of_sample_variance(problem, estimator, noise, weights, n):
    """Exact, from the fourth central moment: (mu4 - mu2^2 (n - 3) / (n - 1)) / n."""
    gradients = problem.gradients(estimator, len(weights), noise)
    centred = gradients - (weights[:, None, None] * gradients).sum(0)
    second, fourth = ((weights[:, None, None] * centred**power).sum(0) for power in (2, 4))
    return (fourth - second.square() * (n - 3) / (n - 1)) / n


@pytest.mark.parametrize("variant", ["reinforce", "reparam", "rloo[num_samples=2]", "rloo[num_samples=3]"])
def test_the_measured_variance_is_the_closed_form(variant, toy, quadrature, largest_z):
    """n = 400,000 draws; z-test with the exact error of a sample variance (the fourth moment is a polynomial's too)."""
    n = 400_000
    problem = toy("quadratic", "none")
    estimator = problem.prepared(variant)
    error = variance_of_sample_variance(problem, estimator, *quadrature(estimator.evaluations, 16), n).sqrt()
    expected = quadratic_variances(problem, variant)
    torch.manual_seed(13)
    found = problem.gradients(estimator, n).var(0)[: len(expected)]
    score = (found - expected) / error[: len(expected)]
    assert float(score.abs().max()) < largest_z(score.numel() * 4)


def test_leave_one_out_mean_leaves_exactly_one_out():
    f = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.cat([f[:s], f[s + 1 :]]).mean(0) for s in range(5)])
    torch.testing.assert_close(leave_one_out_mean(f), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("variant", "weights"), [("reinforce[num_samples=2]", [[1, 0], [0, 1]]), ("rloo", [[1, -1], [-1, 1]])]
)
def test_a_sampled_kl_brings_its_value_into_the_signal_and_no_direct_gradient(variant, weights, toy):
    """(1/S) sum_s signal_s grad log q(z_s), with f = f(z) + log p(z) - log q(z): the direct gradient of -log q would
    leave the mean as it is, and add noise.
    """
    problem = toy("cosine", "sampled")
    estimator = problem.prepared(variant)
    torch.manual_seed(16)
    found = problem.gradients(estimator, 6)[:, 0]
    torch.manual_seed(16)
    loc, log_scale, k = (leaf.detach() for leaf in problem.leaves(6))
    objective = problem.objective([loc, log_scale, k])
    z = objective.q.sample((2,))
    f = (k * z).cos().squeeze(-1) + objective.prior.log_prob(z) - objective.q.log_prob(z)
    signal = torch.einsum("st,t...->s...", torch.tensor(weights).double(), f)
    expected = (signal[..., None] * (z - loc) / (2 * log_scale).exp()).mean(0).squeeze(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_rloo_is_the_sample_covariance_of_f_and_the_score(toy):
    """(1/(S-1)) sum_s (f_s - fbar)(score_s - scorebar): what makes its variance what it is."""
    problem = toy("cosine", "none")
    estimator = problem.prepared("rloo[num_samples=4]")
    torch.manual_seed(14)
    found = problem.gradients(estimator, 6)[:, 0]
    torch.manual_seed(14)
    loc, log_scale, k = (leaf.detach() for leaf in problem.leaves(6))
    z = problem.objective([loc, log_scale, k]).q.sample((4,))
    f, score = (k * z).cos(), (z - loc) / (2 * log_scale).exp()
    covariance = ((f - f.mean(0)) * (score - score.mean(0))).sum(0) / 3
    torch.testing.assert_close(found, covariance.squeeze(-1), rtol=0, atol=1e-12)


def test_stl_has_no_variance_where_q_is_the_posterior():
    """p(z) = N(0, 1), p(x|z) = N(z, 1): the posterior is N(x/2, 1/2). Each draw is zero, to rounding."""
    x = torch.tensor([-2.0, 0.3, 5.0], dtype=torch.float64)

    def leaves(shift):
        loc = (x[:, None] / 2 + shift).expand(500, 3, 1)
        return [leaf.clone().requires_grad_() for leaf in (loc, torch.full_like(loc, -0.5 * math.log(2)))]

    def gradients(variant, shift):
        params = dict(zip(("loc", "log_scale"), leaves(shift), strict=True))
        torch.manual_seed(15)
        surrogate = estimators.create(variant)(
            Objective(
                params,
                lambda values: Independent(Normal(values["loc"], values["log_scale"].exp()), 1),
                lambda z: Normal(z, torch.ones(()).double()).log_prob(x[:, None]).sum(-1),
                lambda: Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1),
            )
        )
        return torch.stack(torch.autograd.grad(surrogate.sum(), list(params.values())))

    assert float(gradients("stl", shift=0).abs().max()) < 1e-12
    # With the score of q, or away from the posterior, there is noise.
    assert float(gradients("reparam", shift=0).var(1).min()) > 0.1
    assert float(gradients("stl", shift=0.5)[1].var(0).min()) > 0.1
