r"""Weak derivatives of q in its parameters: each is the difference of two distributions, times a constant.

    d/d phi_i E_q[f] = c_i (E f(z with z_i ~ q_i^+) - E f(z with z_i ~ q_i^-))

for one latent i at a time; the other latents are drawn once from q and shared by both phases. If the phases are
*coupled*, their draws of z_i are made from common noise. S draws; all points are (S, *R, B, D).

A density p that changes as dp/d phi has its phases in the positive and the negative part of dp/d phi, or in any other
two densities with the same difference. They are derived here for the families of ``FAMILIES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from estbench.estimators._noise import open_uniform
from estbench.problems import Objective

# Newton steps for numbers that have no closed form: after 4 they are right to 1e-9, after 6 to rounding.
STEPS = 6
TRIGAMMA_STEPS = 3  # for the inverse of the trigamma function, whose first guess is within 0.35 of the logarithm


class Phases(NamedTuple):
    """The two phases of one parameter: ``constant`` (f(plus) - f(minus)), with respect to ``parameter``.

    ``minus`` is None where it is the shared draw itself; ``like_q`` says that it is distributed as q.
    """

    parameter: str
    constant: Tensor | float
    plus: Tensor
    minus: Tensor | None = None
    like_q: bool = False


class Decomposition(NamedTuple):
    """A shared draw of all latents, (S, *R, B, D), and the phases of each parameter."""

    shared: Tensor
    phases: list[Phases]


Decompose = Callable[[Objective, int, bool], Decomposition]


def decompose(objective: Objective, samples: int, *, coupled: bool) -> Decomposition:
    """Draw the phases of all parameters; the family is known by the names of its parameters."""
    with torch.no_grad():
        return FAMILIES[frozenset(objective.params)](objective, samples, coupled)


def points_each(objective: Objective) -> int:
    """Return the number of points at which f is evaluated for one sample."""
    latents = objective.q.event_shape.numel()
    if "loc" in objective.params:
        return 4 * latents
    return 1 + latents * (1 if len(objective.params) == 1 else 3 if "log_rate" in objective.params else 2)


def _normal(objective: Objective, samples: int, coupled: bool) -> Decomposition:
    r"""Return the phases of N(mu, s^2), with W ~ Weibull(sqrt 2, 2), M double-sided Maxwell, N standard normal.

        d/d mu     1 / (sqrt(2 pi) s),   mu + s W,   mu - s W
        d/d log s  1,                    mu + s M,   mu + s N

    The density of M is m^2 phi(m): N = U M with U uniform couples them.
    """
    loc, scale = objective.q.mean, objective.q.stddev
    like = loc.new_empty(samples, *loc.shape)

    def weibull() -> Tensor:
        return (2 * torch.empty_like(like).exponential_()).sqrt()

    shared, right = torch.randn_like(like), weibull()
    maxwell = torch.randn(3, *like.shape, dtype=like.dtype, device=like.device).norm(dim=0)
    maxwell = maxwell * torch.randn_like(like).sign()
    left, normal = (right, torch.rand_like(like) * maxwell) if coupled else (weibull(), torch.randn_like(like))
    return Decomposition(
        loc + scale * shared,
        [
            Phases("loc", 1 / (math.sqrt(2 * math.pi) * scale), loc + scale * right, loc - scale * left),
            Phases("log_scale", 1.0, loc + scale * maxwell, loc + scale * normal, like_q=True),
        ],
    )


def _poisson(objective: Objective, samples: int, coupled: bool) -> Decomposition:
    r"""Return the phases of Poisson(r), from d p(z) / d r = p(z - 1) - p(z).

    d/d log r   r,   z + 1,   z
    """
    shared = objective.q.sample((samples,))
    plus = (shared if coupled else objective.q.sample((samples,))) + 1
    return Decomposition(shared, [Phases("log_rate", objective.params["log_rate"].exp(), plus)])


def _gamma(objective: Objective, samples: int, coupled: bool) -> Decomposition:
    r"""Return the phases of Gamma(a, b), with G_a ~ Gamma(a, b).

        d/d log b   -a,            G_{a+1},     G_a
        d/d log a   a^2 psi'(a),   B G_{a+1},   B G_a,   B ~ Beta(a + K, 1),   P(K = k) = (a + k)^-2 / psi'(a)

    The first is d p / d log b = (a - b z) p(z) = a (p_a - p_{a+1}). For the second, with b = 1 and the integrals
    log z = int (e^-s - e^(-s z)) ds / s and psi(a) = int (e^-s - (1 + s)^-a) ds / s,

        d p / d a = (log z - psi(a)) p(z) = int_0^1 v^(a-1) / (1 - v) [law of G_a - law of v G_a] dv

    whose mass is infinite at v = 1. The inner difference is an integral of the first derivative, from v to 1; the order
    of the two integrals exchanged leaves the density sum_k u^(a+k-1) / (a + k) of the factor u, whose mass is the
    trigamma function psi'(a) = sum_k (a + k)^-2: that of B. Coupled, G_{a+1} = G_a + Exp(b), with one B.
    """
    concentration, rate = (objective.params[name].exp() for name in ("log_concentration", "log_rate"))
    shared = objective.q.sample((samples,))

    def larger(z: Tensor) -> Tensor:
        return z + torch.empty_like(z).exponential_() / rate

    if coupled:
        first = second = larger(shared)
        factor = other = _shrink(concentration, shared)
        below = shared
    else:
        first, second, below = objective.q.sample((3, samples))
        first, second = larger(first), larger(second)
        factor, other = _shrink(concentration, shared), _shrink(concentration, shared)
    constant = concentration.square() * torch.polygamma(1, concentration)
    tiny = torch.finfo(shared.dtype).tiny  # as torch's own draws
    return Decomposition(
        shared,
        [
            Phases("log_rate", -concentration, first),
            Phases("log_concentration", constant, (factor * second).clamp(tiny), (other * below).clamp(tiny)),
        ],
    )


def _shrink(concentration: Tensor, like: Tensor) -> Tensor:
    """Draw B ~ Beta(a + K, 1) of ``_gamma``: K by the inverse of P(K >= k) = psi'(a + k) / psi'(a), then B from E."""
    log_target = (open_uniform(like) * torch.polygamma(1, concentration)).log()
    target = log_target.exp()
    # psi'(y) is nearly 1 / y + 1 / (2 y^2), and falls along a smooth line in the logarithms of both.
    log_y = ((1 + (1 + 2 * target).sqrt()) / (2 * target)).log()
    for _ in range(TRIGAMMA_STEPS):
        y = log_y.exp()
        value = torch.polygamma(1, y)
        log_y = log_y - (value.log() - log_target) * value / (y * torch.polygamma(2, y))
    steps = (log_y.exp() - concentration).clamp(min=0).floor()
    return (-torch.empty_like(like).exponential_() / (concentration + steps)).exp()


def _weibull(objective: Objective, samples: int, coupled: bool) -> Decomposition:
    r"""Return the phases of z = s y^(1/k), y ~ Exp(1), as those of y.

        d/d log s   k,    Gamma(2, 1),   y
        d/d log k   -1,   Y,             y,    Y of density (Y - 1) log Y exp(-Y)

    The first is that of the rate s^-k of an exponential variable. For the second, g = log y is scaled by 1 / k. A
    density phi of g has under scaling the derivative -(g phi)' = -g phi' - phi, and -g phi' is a density, because phi
    has its peak at 0. The point (g, V phi(g)) with V uniform is uniform under phi, so that the end of its level,
    phi(G) = V phi(g) on the side of g, has the density -G phi'(G) (Khinchin's theorem): this couples Y = exp(G) and y.
    """
    concentration, log_scale = objective.params["log_concentration"].exp(), objective.params["log_scale"]
    shared = objective.q.sample((samples,))
    y = ((shared.log() - log_scale) * concentration).exp()

    def value(y: Tensor) -> Tensor:
        return (log_scale + y.log() / concentration).exp()

    def again() -> Tensor:
        return y if coupled else torch.empty_like(y).exponential_().clamp(min=torch.finfo(y.dtype).tiny)

    return Decomposition(
        shared,
        [
            Phases("log_scale", concentration, value(again() + torch.empty_like(y).exponential_())),
            Phases("log_concentration", -1.0, value(_end_of_level(again()))),
        ],
    )


def _end_of_level(y: Tensor) -> Tensor:
    """Return Y on the side of y with Y - log Y = y - log y + E, E ~ Exp(1), by Newton's method from beyond the root."""
    excess = (y - y.log() - 1 + torch.empty_like(y).exponential_()).clamp(min=torch.finfo(y.dtype).eps)
    start = excess + (2 * excess).sqrt()
    above, log_below = 1 + start, -start
    for _ in range(STEPS):
        above = above - (above - above.log() - 1 - excess) / (1 - 1 / above)
        log_below = log_below - (torch.expm1(log_below) - log_below - excess) / torch.expm1(log_below)
    return torch.where(y > 1, above, log_below.exp().clamp(min=torch.finfo(y.dtype).tiny))


# By the names of their parameters; q itself is looked at when an estimator is first called.
FAMILIES: Mapping[frozenset[str], Decompose] = {
    frozenset({"loc", "log_scale"}): _normal,
    frozenset({"log_rate"}): _poisson,
    frozenset({"log_concentration", "log_rate"}): _gamma,
    frozenset({"log_concentration", "log_scale"}): _weibull,
}
