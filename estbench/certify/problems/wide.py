r"""Small problems with more examples, latents, categories or importance samples than the others.

They show defects that only concern, say, the fourth Bernoulli latent, the fifth category or the third example. For
several importance samples of normal latents a grid over all K of them has too many nodes. One draw is enough, because
the K draws are independent:

    E[log sum_k w_k] = int_0^inf (exp(-t) - phi(t)^K) / t dt,   phi(t) = E[exp(-t w)]
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.certify.problems.base import (
    QUADRATURE,
    Expectation,
    Parameters,
    SmallProblem,
    at_noise,
    centre,
    draw_inputs,
)
from estbench.certify.problems.continuous import make_polynomial_problem
from estbench.certify.problems.small import INTEGRANDS
from estbench.latents import (
    BernoulliLatents,
    BetaLatents,
    CategoricalLatents,
    DirichletLatents,
    FullNormalLatents,
    GammaLatents,
    Latents,
    NormalLatents,
    StudentTLatents,
    WeibullLatents,
)

EXAMPLES = 3
SAMPLES = 5
# Nodes of quadrature per latent, for three latents: 20 nodes give the same gradients to 1e-7.
NODES = 16
# The trapezoid rule for log t in [-REACH, REACH], which converges exponentially.
REACH, STEPS = 40.0, 800


def _make_problem(latents: Latents, integrand: str, seed: int, samples: int = 1) -> SmallProblem:
    kl = f"{samples} samples" if samples > 1 else "sampled KL"
    outputs, weights = draw_inputs(latents, seed, EXAMPLES)
    params = latents.split(0.8 * outputs)
    if "log_scale" in params:
        params["log_scale"] = 0.5 * params["log_scale"] - 0.2
    size = "x".join(str(number) for number in latents.family(params).event_shape)
    name = f"{latents.name} {size}, {integrand}, {kl}, {EXAMPLES} examples"
    expectation = _exponential_elbo(latents) if latents.name == "normal" and samples == 1 else None
    problem = SmallProblem(
        name, latents, params, weights, INTEGRANDS[integrand], False, samples, expectation=expectation
    )
    # To see a smaller bias of a score function of several samples would take millions of draws.
    if samples > 1:
        problem = dataclasses.replace(problem, detectable=0.1)
        if latents.name in QUADRATURE:
            problem = dataclasses.replace(problem, expectation=_multi_sample_bound(problem, samples))
    return centre(problem)


def _exponential_elbo(latents: Latents) -> Expectation:
    """Return a function that computes the ELBO of normal latents for f = exp(w . z / 2)."""

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        variance = (2 * params["log_scale"]).exp()
        mean = (0.5 * (weights * params["loc"]).sum(-1) + 0.125 * (weights.square() * variance).sum(-1)).exp()
        return mean - latents.kl(params, prior)

    return expectation


def _multi_sample_bound(problem: SmallProblem, samples: int) -> Expectation:
    """Return a function that computes the multi-sample bound from all values of one draw."""
    family = problem.latents.family

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        q = family(params)
        z, log_probability = _nodes(q)
        log_likelihood = problem.integrand(problem.latents.flat(z), weights)
        log_weight = log_likelihood + family(prior).log_prob(z) - q.log_prob(z)
        log_t = torch.linspace(-REACH, REACH, STEPS + 1, dtype=weights.dtype).view(-1, *[1] * log_weight.dim())
        phi = (log_probability - (log_t + log_weight).exp()).exp().sum(1)
        integrand = (-log_t[:, 0].exp()).exp() - phi**samples
        return integrand.sum(0) * (2 * REACH / STEPS) - math.log(samples)

    return expectation


def _nodes(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return the nodes of a grid for one draw from q, (N, *R, B, D), and their log-masses, (N, *1)."""
    ones = [1] * len(q.batch_shape)
    abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
    latents = q.event_shape[0]
    noise = torch.cartesian_prod(*[torch.tensor(abscissae)] * latents).view(-1, *ones, latents)
    mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * latents).view(len(noise), latents).prod(1)
    return at_noise(q, noise), mass.log().view(-1, *ones)


# With several samples, only as many tuples as the estimator `enumeration` can sum over.
WIDE: tuple[SmallProblem, ...] = (
    _make_problem(NormalLatents(5), "exponential", 1),
    _make_problem(BernoulliLatents(5), "exponential", 39),
    _make_problem(CategoricalLatents(4, 5), "exponential", 39),
    _make_problem(NormalLatents(3), "decoder", 8, SAMPLES),
    _make_problem(FullNormalLatents(3), "quadratic", 23),
    _make_problem(FullNormalLatents(2), "decoder", 1, 3),
    _make_problem(FullNormalLatents(2), "quadratic", 2, 2),
    _make_problem(FullNormalLatents(2), "cosine", 7, 2),
    _make_problem(BernoulliLatents(4), "exponential", 2, 3),
    _make_problem(CategoricalLatents(1, 5), "exponential", 8, 4),
    make_polynomial_problem(GammaLatents(4), "bilinear", 1, EXAMPLES),
    make_polynomial_problem(BetaLatents(4), "bilinear", 18, EXAMPLES),
    make_polynomial_problem(DirichletLatents(2, 5), "quadratic", 2, EXAMPLES),
    make_polynomial_problem(StudentTLatents(4), "quadratic", 18, EXAMPLES),
    make_polynomial_problem(WeibullLatents(4), "quadratic", 62, EXAMPLES),
)
