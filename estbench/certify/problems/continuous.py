"""Small problems of gamma, beta, Dirichlet, Student t and Weibull latents.

Their integrands are polynomials of z, whose means are products of moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution, StudentT

from estbench.certify.problems.base import EXAMPLES, Parameters, SmallProblem, centre, draw_inputs
from estbench.latents import (
    IMPLICIT,
    BetaLatents,
    DirichletLatents,
    GammaLatents,
    Latents,
    StudentTLatents,
    WeibullLatents,
)

ACCURACY = 2e-4  # error of torch's implicit gradients, on average over draws, relative to the gradient's norm
Powers = tuple[int, ...]  # the exponents of a monomial, one for each number of the flat sample
Terms = Callable[[Tensor], list[tuple[Tensor, Powers]]]  # from weights (*R, B, P) to (coefficients (*R, B), powers)
Moment = Callable[[Parameters, Powers], Tensor]  # E[prod_i z_i^p_i], (*R, B)


def _quadratic(w: Tensor) -> list[tuple[Tensor, Powers]]:
    """-1/2 sum_i (z_i - w_i)^2 + z_1 z_D / 2."""
    size, one = w.shape[-1], torch.ones_like(w[..., 0])
    squares = [(-0.5 * one, _powers(size, {i: 2})) for i in range(size)]
    lines = [(w[..., i], _powers(size, {i: 1})) for i in range(size)]
    constant = (-0.5 * w.square().sum(-1), _powers(size, {}))
    return [*squares, *lines, constant, (0.5 * one, _powers(size, {0: 1, size - 1: 1}))]


def _cubic(w: Tensor) -> list[tuple[Tensor, Powers]]:
    """sum_i (w_i z_i - z_i^3 / 10) + w_1 z_1^2 z_D / 2."""
    size, one = w.shape[-1], torch.ones_like(w[..., 0])
    lines = [(w[..., i], _powers(size, {i: 1})) for i in range(size)]
    cubes = [(-0.1 * one, _powers(size, {i: 3})) for i in range(size)]
    return [*lines, *cubes, (0.5 * w[..., 0], _powers(size, {0: 2, size - 1: 1}))]


def _bilinear(w: Tensor) -> list[tuple[Tensor, Powers]]:
    """(z_1 - w_1) (w_D - z_D)."""
    first, last, size = w[..., 0], w[..., -1], w.shape[-1]
    end = size - 1
    return [
        (last, _powers(size, {0: 1})),
        (-torch.ones_like(first), _powers(size, {0: 1, end: 1})),
        (-first * last, _powers(size, {})),
        (first, _powers(size, {end: 1})),
    ]


def _powers(size: int, exponents: Mapping[int, int]) -> Powers:
    return tuple(exponents.get(place, 0) for place in range(size))


def _factors(z: Tensor, powers: Powers) -> list[Tensor]:
    """Return the factors of a monomial; to multiply them takes a tenth of the time of powers."""
    return [z[..., place] for place, power in enumerate(powers) for _ in range(power)]


def _gamma(params: Parameters, powers: Powers) -> Tensor:
    """E z^p = Gamma(a + p) / Gamma(a) / rate^p."""
    a, log_rate = params["log_concentration"].exp(), params["log_rate"]
    p = a.new_tensor(powers)
    return (torch.lgamma(a + p) - torch.lgamma(a) - p * log_rate).sum(-1).exp()


def _beta(params: Parameters, powers: Powers) -> Tensor:
    """E z^p = B(a + p, b) / B(a, b)."""
    a, b = params["log_alpha"].exp(), params["log_beta"].exp()
    p = a.new_tensor(powers)
    return (torch.lgamma(a + p) - torch.lgamma(a) - torch.lgamma(a + b + p) + torch.lgamma(a + b)).sum(-1).exp()


def _dirichlet(params: Parameters, powers: Powers) -> Tensor:
    """E prod_c z_c^p_c = Gamma(A) / Gamma(A + P) prod_c Gamma(a_c + p_c) / Gamma(a_c), A = sum_c a_c, P = sum_c p_c."""
    a = params["log_concentration"].exp()
    p = a.new_tensor(powers).view(a.shape[-2:])
    total = a.sum(-1)
    corners = (torch.lgamma(a + p) - torch.lgamma(a)).sum(-1)
    return (corners - torch.lgamma(total + p.sum(-1)) + torch.lgamma(total)).sum(-1).exp()


def _student_t(params: Parameters, powers: Powers) -> Tensor:
    """The first three moments; the variance is s^2 df / (df - 2)."""
    excess, loc = params["log_excess_df"].exp(), params["loc"]
    variance = (2 * params["log_scale"]).exp() * (2 + excess) / excess
    moments = [torch.ones_like(loc), loc, loc.square() + variance, loc**3 + 3 * loc * variance]
    return torch.stack([moments[power][..., place] for place, power in enumerate(powers)]).prod(0)


def _weibull(params: Parameters, powers: Powers) -> Tensor:
    """E z^p = scale^p Gamma(1 + p / k)."""
    p = params["log_scale"].new_tensor(powers)
    return (p * params["log_scale"] + torch.lgamma(1 + p * (-params["log_concentration"]).exp())).sum(-1).exp()


def _student_t_kl(q: Parameters, p: Parameters) -> Tensor:
    """Return KL(q || p), (*R, B), by the trapezoid rule in u with t = sinh(u): exact to rounding."""
    u = torch.linspace(-20, 20, 2001, dtype=torch.float64).view(-1, *[1] * q["loc"].dim())
    t, step = u.sinh(), 40 / 2000
    df, scale = 2 + q["log_excess_df"].exp(), q["log_scale"].exp()
    prior: Distribution = StudentT(2 + p["log_excess_df"].exp(), p["loc"], p["log_scale"].exp())
    standard: Distribution = StudentT(df)
    log_density = standard.log_prob(t)
    ratio = log_density - q["log_scale"] - prior.log_prob(q["loc"] + scale * t)
    integral: Tensor = (log_density.exp() * u.cosh() * ratio).sum((0, -1))
    return integral * step


MOMENTS: dict[str, Moment] = {
    "gamma": _gamma,
    "beta": _beta,
    "dirichlet": _dirichlet,
    "student-t": _student_t,
    "weibull": _weibull,
}
POLYNOMIALS: dict[str, Terms] = {"quadratic": _quadratic, "cubic": _cubic, "bilinear": _bilinear}
# Added to the parameters, which are drawn around zero, so that means are about 1 and the moments of tails are finite.
SHIFTS: dict[str, dict[str, float]] = {
    "gamma": {"log_concentration": 1.4, "log_rate": 1.4},
    "beta": {"log_alpha": 0.7, "log_beta": 0.7},
    "dirichlet": {"log_concentration": 0.7},
    "student-t": {"log_excess_df": 2.5, "log_scale": -0.6},
    "weibull": {"log_concentration": 0.7},
}
# Factors of the polynomials: for z of at most 1 they vary little, and the gradient would be mostly that of the KL.
FACTORS = {"beta": 4.0, "dirichlet": 4.0}


def make_polynomial_problem(latents: Latents, integrand: str, seed: int, examples: int = EXAMPLES) -> SmallProblem:
    """Return a problem whose integrand is a polynomial of z: ``quadratic``, ``cubic`` or ``bilinear``."""
    analytic_kl = latents.closed_form_kl and integrand != "cubic"
    name = f"{latents.name}, {integrand}, {'analytic' if analytic_kl else 'sampled'} KL"
    if examples != EXAMPLES:
        name += f", {examples} examples"
    outputs, weights = draw_inputs(latents, seed, examples)
    shifts = SHIFTS[latents.name]
    params = {key: value + shifts.get(key, 0.0) for key, value in latents.split(0.5 * outputs).items()}
    factor, moment = FACTORS.get(latents.name, 1.0), MOMENTS[latents.name]
    accuracy = ACCURACY if latents.name in IMPLICIT else 0.0

    def terms(weights: Tensor) -> list[tuple[Tensor, Powers]]:
        return [(factor * c, powers) for c, powers in POLYNOMIALS[integrand](weights)]

    def polynomial(z: Tensor, weights: Tensor) -> Tensor:
        values = (c * math.prod(_factors(z, powers)) for c, powers in terms(weights))
        return sum(values, start=torch.zeros_like(z[..., 0]))

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        kl = latents.kl if latents.closed_form_kl else _student_t_kl
        means = [c * moment(params, powers) for c, powers in terms(weights)]
        return torch.stack(means).sum(0) - kl(params, prior)

    return centre(
        SmallProblem(
            name, latents, params, weights, polynomial, analytic_kl, accuracy=accuracy, expectation=expectation
        )
    )


CONTINUOUS: tuple[SmallProblem, ...] = (
    make_polynomial_problem(GammaLatents(2), "quadratic", 22),
    make_polynomial_problem(GammaLatents(2), "cubic", 31),
    make_polynomial_problem(GammaLatents(2), "bilinear", 21),
    make_polynomial_problem(BetaLatents(2), "quadratic", 27),
    make_polynomial_problem(BetaLatents(2), "cubic", 18),
    make_polynomial_problem(BetaLatents(2), "bilinear", 9),
    make_polynomial_problem(DirichletLatents(1, 3), "quadratic", 29),
    make_polynomial_problem(DirichletLatents(1, 3), "cubic", 36),
    make_polynomial_problem(DirichletLatents(1, 3), "bilinear", 10),
    make_polynomial_problem(StudentTLatents(2), "quadratic", 31),
    make_polynomial_problem(StudentTLatents(2), "cubic", 42),
    make_polynomial_problem(StudentTLatents(2), "bilinear", 133),
    make_polynomial_problem(WeibullLatents(2), "quadratic", 33),
    make_polynomial_problem(WeibullLatents(2), "cubic", 31),
    make_polynomial_problem(WeibullLatents(2), "bilinear", 33),
)
