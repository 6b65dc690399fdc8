r"""Variances of single gradient estimates on the one-dimensional ``gaussian_toy``, in closed form.

With z = m + s e, e ~ N(0, 1), the estimates of d E[c(z)] / d m and d E[c(z)] / d s are

    score-function    c(z) e / s                                       c(z) (e^2 - 1) / s
    pathwise          c'(z)                                            c'(z) e
    measure-valued    (c(m + s W) - c(m - s W)) / (sqrt(2 pi) s)       (c(m + s M) - c(m + s U M)) / s

W ~ Weibull(scale sqrt 2, shape 2) is shared by both terms; M is double-sided Maxwell and U uniform on (0, 1), so that
U M is normal (Mohamed et al., 2020, arXiv:1906.10652). The gradient with respect to log s is s times
that with respect to s, and its variance s^2 times.

The moments come from E[e^(i a e)] = exp(-a^2 / 2) for the cosine and, for the exponential, from

    E[exp(-K z^2) h(e)] = Z E[h(e')],   e' ~ N(t, v),   v = 1 / (1 + 2 K s^2),   t = -2 K s m v,
    Z = sqrt(v) exp(-K m^2 v).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import dawsn

Cost = Literal["quadratic", "exponential", "cosine"]
Estimator = Literal["score-function", "pathwise", "measure-valued"]
Parameter = Literal["loc", "scale"]


def variance(cost: Cost, estimator: Estimator, parameter: Parameter, m: float, s: float, k: float) -> float:
    """Return the variance of one estimate of the gradient with respect to ``loc`` = m or ``scale`` = s.

    Examples
    --------
    >>> from estbench.problems.gaussian_variances import variance
    >>> variance("quadratic", "pathwise", "loc", m=1.0, s=1.0, k=0.5)
    4.0
    >>> variance("quadratic", "score-function", "loc", m=1.0, s=1.0, k=0.5)
    18.5625
    """
    moments = {"quadratic": _quadratic, "exponential": _exponential, "cosine": _cosine}[cost]
    return moments(m, s, k)[estimator, parameter]


Table = dict[tuple[Estimator, Parameter], float]


def _quadratic(m: float, s: float, k: float) -> Table:
    d2, s2 = (m - k) ** 2, s**2
    return {
        ("score-function", "loc"): d2**2 / s2 + 14 * d2 + 15 * s2,
        ("score-function", "scale"): 2 * d2**2 / s2 + 60 * d2 + 74 * s2,
        ("pathwise", "loc"): 4 * s2,
        ("pathwise", "scale"): 4 * d2 + 8 * s2,
        ("measure-valued", "loc"): (16 / math.pi - 4) * d2,
        ("measure-valued", "scale"): 4 * d2 + 4 * s2,
    }


def _cosine(m: float, s: float, k: float) -> Table:
    loc2 = (k * math.exp(-((k * s) ** 2) / 2) * math.sin(k * m)) ** 2
    scale2 = (k**2 * s * math.exp(-((k * s) ** 2) / 2) * math.cos(k * m)) ** 2
    # cos^2 and sin^2 bring in the doubled angle a e + 2 k m.
    a = 2 * k * s
    doubled = math.exp(-(a**2) / 2) * math.cos(2 * k * m)
    single = math.exp(-((k * s) ** 2) / 2)
    # E sin^2(k s W) = (1 - E cos(a W)) / 2, where E cos(a W) = 1 - a sqrt(2) Dawson(a / sqrt 2).
    sine2 = a * math.sqrt(2) * float(dawsn(a / math.sqrt(2))) / 2
    # E[cos(k m + k s M) cos(k m + k s U M)], by the integral of (1 - c^2 t^2) exp(-c^2 t^2 / 2), t exp(-c^2 t^2 / 2).
    shared = 0.5 * (math.cos(2 * k * m) * (2 * math.exp(-(a**2) / 2) - single) + single)
    squares = 0.5 * (1 + (1 - a**2) * doubled) + 0.5 * (1 + doubled)
    return {
        ("score-function", "loc"): 0.5 * (1 + (1 - a**2) * doubled) / s**2 - loc2,
        ("score-function", "scale"): 0.5 * (2 + (2 - 4 * a**2 + a**4) * doubled) / s**2 - scale2,
        ("pathwise", "loc"): 0.5 * k**2 * (1 - doubled) - loc2,
        ("pathwise", "scale"): 0.5 * k**2 * (1 - (1 - a**2) * doubled) - scale2,
        ("measure-valued", "loc"): 4 * math.sin(k * m) ** 2 * sine2 / (2 * math.pi * s**2) - loc2,
        ("measure-valued", "scale"): (squares - 2 * shared) / s**2 - scale2,
    }


def _exponential(m: float, s: float, k: float) -> Table:
    mass, (_, mean, square, _, _) = _tilted(m, s, k)
    loc2 = (mass * mean / s) ** 2
    scale2 = (mass * (square - 1) / s) ** 2
    # The squared cost is exp(-2 k z^2).
    z2, (_, e1, e2, e3, e4) = _tilted(m, s, 2 * k)
    v = 1 / (1 + 4 * k * s**2)
    folded = math.sqrt(2 * v / math.pi) * math.exp(-(e1**2) / (2 * v)) + e1 * math.erf(e1 / math.sqrt(2 * v))
    phases = math.sqrt(2 * math.pi) * z2 * folded - 2 * math.exp(-2 * k * m**2) * v
    return {
        ("score-function", "loc"): z2 * e2 / s**2 - loc2,
        ("score-function", "scale"): z2 * (e4 - 2 * e2 + 1) / s**2 - scale2,
        ("pathwise", "loc"): 4 * k**2 * z2 * (m**2 + 2 * m * s * e1 + s**2 * e2) - loc2,
        ("pathwise", "scale"): 4 * k**2 * z2 * (m**2 * e2 + 2 * m * s * e3 + s**2 * e4) - scale2,
        ("measure-valued", "loc"): phases / (2 * math.pi * s**2) - loc2,
        ("measure-valued", "scale"): (z2 * e2 + z2 - 2 * _coupled_exponentials(m, s, k)) / s**2 - scale2,
    }


def _tilted(m: float, s: float, rate: float) -> tuple[float, tuple[float, float, float, float, float]]:
    """Return Z, and the moments 0 to 4 of e' ~ N(t, v)."""
    v = 1 / (1 + 2 * rate * s**2)
    t = -2 * rate * s * m * v
    moments = (1.0, t, t**2 + v, t**3 + 3 * t * v, t**4 + 6 * t**2 * v + 3 * v**2)
    return math.sqrt(v) * math.exp(-rate * m**2 * v), moments


def _coupled_exponentials(m: float, s: float, k: float) -> float:
    """Return E[c(m + s M) c(m + s U M)]: in closed form given U, integrated over U by Gauss-Legendre, to rounding."""
    nodes, masses = np.polynomial.legendre.leggauss(64)
    u = (nodes + 1) / 2
    precision = 1 + 2 * k * s**2 * (1 + u**2)
    slope = 2 * k * m * s * (1 + u)
    given = (1 / precision + (slope / precision) ** 2) / np.sqrt(precision)
    return float(np.sum(masses / 2 * given * np.exp(slope**2 / (2 * precision) - 2 * k * m**2)))
