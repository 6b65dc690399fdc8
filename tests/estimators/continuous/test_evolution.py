"""Evolution strategies and SPSA: unbiased for what they smooth, biased by a known amount for the objective."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.gaussian_toy import columns, make_leaves, make_objective, sample_toy
from oracles.z_scores import largest_z, z_of_mean

from estbench import estimators
from estbench.certify import run_bias_tests, small_problems_for
from estbench.errors import EstbenchError

N = 100_000


@pytest.mark.parametrize("kl", ["none", "analytic"])
@pytest.mark.parametrize(
    ("variant", "stretch"),
    [
        ("es[step=0.3]", math.exp(2 * 0.3**2)),
        ("spsa[step=0.3]", math.sinh(0.6) / 0.6),
        ("es[step=0.3,num_samples=3]", math.exp(2 * 0.3**2)),
    ],
)
def test_the_mean_is_the_gradient_of_the_smoothed_objective(variant, stretch, kl):
    """f = (z - k)^2, E f = d^2 + s^2: smoothing over mu adds a constant, that over log s stretches s^2.

    Normal directions: E exp(2 c e) = exp(2 c^2). Signs: (exp(2 c) - exp(-2 c)) / (4 c). The KL stays as it is.
    """
    m, s, k = columns()
    found = sample_toy(variant, N if "num_samples" not in variant else N // 4, kl=kl)
    analytic = kl == "analytic"
    expected = {
        "loc": 2 * (m - k) - analytic * m,
        "log_scale": 2 * s**2 * stretch - analytic * (s**2 - 1),
        "k": -2 * (m - k),  # the decoder's gradient is not smoothed
    }
    for name, value in expected.items():
        assert float(z_of_mean(found[name][..., 0], value).abs().max()) < largest_z(6 * 9)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["es", "spsa"])
def test_the_bias_is_found_and_grows_with_the_square_of_the_step(variant):
    """For the curvature of quadratics, with respect to log s: relative bias 2 c^2, and (2 c)^2 / 6."""
    problem = small_problems_for({"normal"}, {"elbo"})[0]
    found = {test.group: test for test in run_bias_tests(estimators.create(variant), problem, coordinates=12)}
    assert not found["log_scale"].unbiased
    assert found["weights"].unbiased
    s = columns()[1]
    order = {"es": 2.0, "spsa": 4 / 6}[variant]
    for step in (0.1, 0.2):
        drawn = sample_toy(f"{variant}[step={step}]", N)["log_scale"][..., 0]
        # What comes after the leading order, c^4, is below 0.7 of its square for both.
        error = drawn.std(0) / math.sqrt(N) * largest_z(12) + 2 * s**2 * 0.7 * (order * step**2) ** 2
        assert bool(((drawn.mean(0) - 2 * s**2) - 2 * s**2 * order * step**2).abs().lt(error).all())


def test_both_sides_share_their_noise():
    """f(phi + c e) - f(phi - c e) for f linear in z and e of the mean alone has no noise: the slope is exact."""
    estimator = estimators.create("spsa")
    parts = make_leaves(6)
    seen = []
    problem = make_objective(parts)
    problem._log_likelihood = lambda z: seen.append(z) or z.sum(-1)
    torch.manual_seed(1)
    estimator(problem)
    assert problem.evaluations == 3 * 6 * 3
    upper, lower, middle = seen
    m, s = parts["loc"].detach(), parts["log_scale"].detach().exp()
    c = estimator.options.step
    noise = (middle - m) / s
    for side, sign in ((upper, 1), (lower, -1)):
        # Of the four combinations of signs, one explains the point.
        candidates = torch.stack(
            [m + sign * c * a + s * math.exp(sign * c * b) * noise for a in (1, -1) for b in (1, -1)]
        )
        assert float((candidates - side).abs().min(0).values.max()) < 1e-12


@pytest.mark.parametrize(
    ("variant", "said"), [("es[step=0]", "greater than 0"), ("spsa[num_samples=0]", "greater than or equal to 1")]
)
def test_wrong_options_are_refused(variant, said):
    with pytest.raises(EstbenchError, match=said):
        estimators.create(variant)
