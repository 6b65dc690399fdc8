"""The decompositions behind the measure-valued gradient of counts, gammas and Weibulls, and their coupling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.z_scores import largest_z, z_of_mean, z_of_variance
from scipy import integrate, special, stats

from estbench import estimators, measure, problems
from estbench.certify import run_bias_tests, small_problems_for
from estbench.estimators.continuous import _weak_derivatives as weak
from estbench.latents import make_latents
from estbench.problems import family_objective

N = 100_000
FAMILIES = ("poisson", "gamma", "weibull")


def moment(family, place, power):
    """E z^power of one latent; ``place`` are its parameters by name."""
    if family == "gamma":
        a = math.exp(place["log_concentration"])
        return math.exp(special.gammaln(a + power) - special.gammaln(a) - power * place["log_rate"])
    if family == "weibull":
        return math.exp(power * place["log_scale"] + special.gammaln(1 + power * math.exp(-place["log_concentration"])))
    z = np.arange(200.0)
    return float((stats.poisson(math.exp(place["log_rate"])).pmf(z) * z**power).sum())


def derivative(family, place, name, power, step=1e-4):
    above, below = ({**place, name: place[name] + c * step} for c in (1, -1))
    return (moment(family, above, power) - moment(family, below, power)) / (2 * step)


PLACES = [
    ("poisson", {"log_rate": 1.1}),
    ("poisson", {"log_rate": -1.0}),
    ("gamma", {"log_concentration": -0.9, "log_rate": 0.4}),
    ("gamma", {"log_concentration": 1.5, "log_rate": 0.8}),
    ("weibull", {"log_concentration": 0.6, "log_scale": -0.3}),
    ("weibull", {"log_concentration": -0.2, "log_scale": 0.2}),
]


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize(("family", "place"), PLACES)
def test_the_difference_of_the_phases_is_the_derivative(family, place, coupled):
    """Of E z and of E z^0.5, with n = 100,000 draws: a z-test of each, against differences of the moments."""
    params = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in place.items()}
    objective = family_objective(family, params, lambda z: z.sum(-1))
    torch.manual_seed(0)
    shared, phases = weak.decompose(objective, N, coupled=coupled)
    assert sorted(each.parameter for each in phases) == sorted(place)
    for each in phases:
        minus = shared if each.minus is None else each.minus
        for power in (0.5, 1.0):
            drawn = (each.constant * (each.plus**power - minus**power)).view(N, 1)
            expected = derivative(family, place, each.parameter, power)
            if float(drawn.std()) < 1e-9:  # z + 1 and z
                assert float(drawn[0]) == pytest.approx(expected, rel=1e-6)
                continue
            assert float(z_of_mean(drawn, expected).abs().max()) < largest_z(2 * 2 * 2 * len(PLACES))


@pytest.mark.parametrize("a", [0.07, 0.5, 1.0, 12.0])
def test_the_shrinking_factor_has_the_moments_of_its_mixture(a):
    """E B^p = sum_k (a + k)^-2 (a + k) / (a + k + p) / psi'(a) for B ~ Beta(a + K, 1)."""
    concentration = torch.tensor([a], dtype=torch.float64)
    torch.manual_seed(1)
    drawn = weak._shrink(concentration, torch.empty(N, 1, dtype=torch.float64))
    for power in (0.5, 1.0, 2.0):
        # 1 / (x (x + p)) = (1 / x - 1 / (x + p)) / p, whose sum is a difference of digammas.
        expected = (special.digamma(a + power) - special.digamma(a)) / power / special.polygamma(1, a)
        assert float(z_of_mean(drawn**power, expected).abs().max()) < largest_z(12)


def test_the_decomposition_in_the_concentration_of_a_gamma_is_exact_for_powers():
    """a^2 psi'(a) E B^p (E G_{a+1}^p - E G_a^p) = d E G_a^p / d log a, by hand and without draws."""
    for a in (0.07, 0.5, 1.0, 12.0):
        for power in (0.3, 1.0, 2.5):
            of_factor = (special.digamma(a + power) - special.digamma(a)) / power / special.polygamma(1, a)
            moments = [math.exp(special.gammaln(c + power) - special.gammaln(c)) for c in (a + 1, a)]
            found = a**2 * special.polygamma(1, a) * of_factor * (moments[0] - moments[1])
            expected = a * moments[1] * (special.digamma(a + power) - special.digamma(a))
            assert found == pytest.approx(expected, rel=1e-10)


def test_the_end_of_a_level_has_its_distribution():
    """Of density (y - 1) log y exp(-y), and so P(Y < y) = 1 - exp(-y) (1 + y log y); on the side of the draw."""
    expected, _ = integrate.quad(lambda t: (t - 1) * math.log(t) * math.exp(-t), 0, 2.0)
    assert expected == pytest.approx(1 - math.exp(-2) * (1 + 2 * math.log(2)), abs=1e-10)
    torch.manual_seed(2)
    y = torch.empty(N, dtype=torch.float64).exponential_()
    end = weak._end_of_level(y)
    assert stats.kstest(end.numpy(), lambda t: 1 - np.exp(-t) * (1 + t * np.log(t))).pvalue > 1e-4
    assert bool(((end > 1) == (y > 1)).all())
    assert bool((end.log().abs() >= y.log().abs()).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_parameters_and_draws_give_finite_phases(dtype):
    for family, values in (
        ("gamma", {"log_concentration": (-4.0, 0.0, 8.0), "log_rate": (-3.0, 0.0, 3.0)}),
        ("weibull", {"log_concentration": (-2.0, 0.0, 4.0), "log_scale": (-3.0, 0.0, 3.0)}),
        ("poisson", {"log_rate": (-12.0, 0.0, 6.0)}),
    ):
        params = {name: torch.tensor([value], dtype=dtype) for name, value in values.items()}
        objective = family_objective(family, params, lambda z: z.sum(-1))
        torch.manual_seed(3)
        shared, phases = weak.decompose(objective, 20_000, coupled=True)
        for each in phases:
            assert each.plus.dtype == dtype
            for z in (shared, each.plus, *([] if each.minus is None else [each.minus])):
                assert z.isfinite().all()
                assert float(z.min()) >= 0 if family == "poisson" else float(z.min()) > 0


def draws_of(variant, problem, replicates=N):
    x = torch.zeros(1, 1, dtype=torch.float64)
    return measure.draw_gradients(problem, estimators.create(variant), x, replicates)


@pytest.mark.parametrize("rate", [0.3, 2.0, 6.0])
def test_the_variance_on_counts_is_the_closed_form(rate):
    """f(z + 1) - f(z) = -(2 (z - k) + 1), so that the gradient in log rate has the variance rate^2 4 rate.

    Without coupling f(z' + 1) and f(z) are independent: rate^2 (Var (z + 1 - k)^2 + Var (z - k)^2).
    """
    problem = problems.create(f"poisson_toy[k=1.5,rate={rate}]").double()
    rate = float(problem.log_rate.detach().exp())  # the option was rounded to single precision
    z = np.arange(100.0)
    mass = stats.poisson(rate).pmf(z)

    def variance(values):
        return float((mass * values**2).sum() - (mass * values).sum() ** 2)

    apart = rate**2 * (variance((z - 0.5) ** 2) + variance((z - 1.5) ** 2))
    for variant, expected in (("measure-valued", 4 * rate**3), ("measure-valued[coupling=false]", apart)):
        drawn = draws_of(variant, problem)["log_rate"][:, 0]
        assert float(z_of_variance(drawn, expected).abs().max()) < largest_z(12)
        mean = rate * (1 + 2 * (rate - 1.5))
        assert float(z_of_mean(drawn, -mean).abs().max()) < largest_z(12)


@pytest.mark.parametrize("family", FAMILIES)
def test_coupled_phases_of_a_monotone_cost_have_less_variance(family):
    latents = make_latents(family, 2)
    torch.manual_seed(4)
    params = latents.split(0.3 * torch.randn(1, latents.outputs, dtype=torch.float64) + 0.5)
    variances = []
    for variant in ("measure-valued", "measure-valued[coupling=false]"):
        leaves = {name: value.expand(4000, -1).clone().requires_grad_() for name, value in params.items()}
        objective = family_objective(family, leaves, lambda z: z.sqrt().sum(-1))
        estimators.create(variant)(objective).sum().backward()
        variances.append({name: value.grad.var(0).sum() for name, value in leaves.items()})
    for name, coupled in variances[0].items():
        assert coupled < 0.8 * variances[1][name]


@pytest.mark.parametrize(("family", "points"), [("normal", 12), ("poisson", 4), ("gamma", 10), ("weibull", 7)])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_points_are_counted_and_the_live_ones_are_draws_from_q(family, points, samples):
    """Of 3 latents; only points that are distributed as q carry a gradient."""
    latents = make_latents(family, 3)
    params = {name: torch.zeros(5000, 3, dtype=torch.float64) for name in latents.parameter_names()}
    live = []

    def f(z):
        if torch.is_grad_enabled():
            live.append(z)
        return z.sum(-1)

    objective = family_objective(family, params, f)
    estimator = estimators.create(f"measure-valued[num_samples={samples}]")
    torch.manual_seed(5)
    estimator(objective)
    assert objective.evaluations == samples * points * 5000 == estimator.count_evaluations(objective) * 5000
    (z,) = live
    q = objective.q
    assert z.shape == (samples * (3 if family == "normal" else 1), 5000, 3)
    mean, variance = (1.0, 1.0) if family != "normal" else (0.0, 1.0)
    drawn = z[0]
    assert float(z_of_mean(drawn, mean).abs().max()) < largest_z(48)
    assert float(z_of_variance(drawn, variance).abs().max()) < largest_z(48)
    assert q.batch_shape == (5000,)


def test_the_samples_are_averaged():
    """Three samples have a third of the variance."""
    problem = problems.create("gaussian_toy").double()
    one, three = (
        draws_of(f"measure-valued[num_samples={count}]", problem, replicates=N)["loc"].var() for count in (1, 3)
    )
    assert float(one / three) == pytest.approx(3, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["measure-valued", "measure-valued[coupling=false]"])
@pytest.mark.parametrize("problem", small_problems_for(set(FAMILIES), {"elbo"}), ids=lambda problem: problem.name)
def test_the_mean_is_the_exact_gradient(problem, variant):
    tests = run_bias_tests(estimators.create(variant), problem, coordinates=400)
    assert all(test.unbiased for test in tests)
    # What the family's sampler may be wrong by comes on top, as in a certificate.
    assert all(test.detectable <= problem.detectable + problem.accuracy for test in tests)
