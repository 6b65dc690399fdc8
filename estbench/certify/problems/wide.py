r"""Settings of more examples, latents, bits, categories and importance samples than the others have.

What is wrong only for the fourth bit, the fifth category or the third example is seen here. Of
normal latents there are too many nodes for tuples of K. The bound needs none, because its draws are independent:

    E[log sum_k w_k] = int_0^inf (exp(-t) - phi(t)^K) / t dt,   phi(t) = E[exp(-t w)]
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.certify.settings.base import Expectation, Parameters, Setting, centred, drawn
from estbench.certify.settings.continuous import continuous
from estbench.certify.settings.small import INTEGRANDS
from estbench.latents import (
    BernoulliLatents,
    BetaLatents,
    CategoricalLatents,
    DirichletLatents,
    GammaLatents,
    Latents,
    NormalLatents,
    StudentTLatents,
)

EXAMPLES = 3
SAMPLES = 5
# Of quadrature per latent, of three: 20 nodes give the same gradients to 1e-7.
NODES = 16
# Of the trapezoid rule in log t, which converges exponentially.
REACH, STEPS = 40.0, 800


def _setting(latents: Latents, integrand: str, seed: int, samples: int = 1) -> Setting:
    kl = f"{samples} samples" if samples > 1 else "sampled KL"
    outputs, weights = drawn(latents, seed, EXAMPLES)
    params = latents.split(0.8 * outputs)
    if "log_scale" in params:
        params["log_scale"] = 0.5 * params["log_scale"] - 0.2
    size = "x".join(str(number) for number in latents.family(params).event_shape)
    name = f"{latents.name} {size}, {integrand}, {kl}, {EXAMPLES} examples"
    expectation = _exponential(latents) if latents.name == "normal" and samples == 1 else None
    setting = Setting(name, latents, params, weights, INTEGRANDS[integrand], False, samples, expectation=expectation)
    # A score function of several samples would take millions of draws to show less.
    if samples > 1:
        setting = dataclasses.replace(setting, detectable=0.1)
        if latents.name == "normal":
            setting = dataclasses.replace(setting, expectation=_bound(setting, samples))
    return centred(setting)


def _exponential(latents: Latents) -> Expectation:
    """The ELBO of normal latents where f = exp(w . z / 2)."""

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        variance = (2 * params["log_scale"]).exp()
        mean = (0.5 * (weights * params["loc"]).sum(-1) + 0.125 * (weights.square() * variance).sum(-1)).exp()
        return mean - latents.kl(params, prior)

    return expectation


def _bound(setting: Setting, samples: int) -> Expectation:
    """The multi-sample bound, from all values of one draw."""
    family = setting.latents.family

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        q = family(params)
        z, log_probability = _values(q)
        log_likelihood = setting.integrand(setting.latents.flat(z), weights)
        log_weight = log_likelihood + family(prior).log_prob(z) - q.log_prob(z)
        log_t = torch.linspace(-REACH, REACH, STEPS + 1, dtype=weights.dtype).view(-1, *[1] * log_weight.dim())
        phi = (log_probability - (log_t + log_weight).exp()).exp().sum(1)
        integrand = (-log_t[:, 0].exp()).exp() - phi**samples
        return integrand.sum(0) * (2 * REACH / STEPS) - math.log(samples)

    return expectation


def _values(q: Distribution) -> tuple[Tensor, Tensor]:
    """What one draw from q can be, (N, *R, B, D), and its log-mass: nodes of a grid."""
    ones = [1] * len(q.batch_shape)
    abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
    latents = q.event_shape[0]
    noise = torch.cartesian_prod(*[torch.tensor(abscissae)] * latents).view(-1, *ones, latents)
    mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * latents).view(len(noise), latents).prod(1)
    return q.mean + q.stddev * noise, mass.log().view(-1, *ones)


# Of several samples, no more tuples than the estimator `enumeration` sums over.
WIDE: tuple[Setting, ...] = (
    _setting(NormalLatents(5), "exponential", 1),
    _setting(BernoulliLatents(5), "exponential", 39),
    _setting(CategoricalLatents(4, 5), "exponential", 39),
    _setting(NormalLatents(3), "decoder", 8, SAMPLES),
    _setting(BernoulliLatents(4), "exponential", 2, 3),
    _setting(CategoricalLatents(1, 5), "exponential", 8, 4),
    continuous(GammaLatents(4), "bilinear", 1, EXAMPLES),
    continuous(BetaLatents(4), "bilinear", 18, EXAMPLES),
    continuous(DirichletLatents(2, 5), "quadratic", 2, EXAMPLES),
    continuous(StudentTLatents(4), "quadratic", 18, EXAMPLES),
)
