r"""Small problems of Poisson latents, exact by truncation.

    E_q[f] = sum_z q(z) f(z) over the grid {0, ..., N - 1}^D

Rates are at most 4.5, so the counts from N = 40 on have a mass below 1e-22, and the sum is exact to rounding. A wide
problem, whose grid would be too large, has the closed form E exp(a . z) = exp(sum_d rate_d (exp(a_d) - 1)).
"""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.certify.problems.base import (
    EXAMPLES,
    Expectation,
    Integrand,
    Parameters,
    SmallProblem,
    centre,
    draw_inputs,
)
from estbench.certify.problems.small import INTEGRANDS
from estbench.latents import PoissonLatents

COUNTS = 40  # N, of each latent
WIDE_EXAMPLES = 3


def _make_problem(size: int, integrand: str, seed: int, *, analytic_kl: bool, examples: int = EXAMPLES) -> SmallProblem:
    latents = PoissonLatents(size)
    name = f"poisson, {integrand}, {'analytic' if analytic_kl else 'sampled'} KL"
    if examples != EXAMPLES:
        name += f", {examples} examples"
    outputs, weights = draw_inputs(latents, seed, examples)
    f = INTEGRANDS[integrand]
    expectation = _truncated(latents, f) if examples == EXAMPLES else _exponential(latents)
    # Counts are larger than normal variables, so the weights are smaller than elsewhere.
    params = latents.split(0.8 * outputs + 0.5)
    return centre(SmallProblem(name, latents, params, 0.7 * weights, f, analytic_kl, expectation=expectation))


def _truncated(latents: PoissonLatents, f: Integrand) -> Expectation:
    """Return a function that sums over all counts below N."""

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        axes = [torch.arange(COUNTS, dtype=weights.dtype)] * latents.inputs
        grid = torch.cartesian_prod(*axes).view(-1, *[1] * (weights.dim() - 1), latents.inputs)
        z = grid.expand(-1, *weights.shape[:-1], -1)
        probability = latents.family(params).log_prob(z).exp()
        return (probability * f(z, weights)).sum(0) - latents.kl(params, prior)

    return expectation


def _exponential(latents: PoissonLatents) -> Expectation:
    """Return a function that computes the ELBO for f = exp(w . z / 2)."""

    def expectation(params: Parameters, prior: Parameters, weights: Tensor) -> Tensor:
        mean = (params["log_rate"].exp() * torch.expm1(0.5 * weights)).sum(-1).exp()
        return mean - latents.kl(params, prior)

    return expectation


POISSON: tuple[SmallProblem, ...] = (
    _make_problem(2, "quadratic", 55, analytic_kl=True),
    _make_problem(2, "cosine", 4, analytic_kl=False),
    _make_problem(2, "decoder", 42, analytic_kl=True),
    _make_problem(4, "exponential", 4, analytic_kl=False, examples=WIDE_EXAMPLES),
)
