"""Small problems of few normal, Bernoulli or categorical latents, integrated by quadrature or enumerated."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estbench.certify.problems.base import Integrand, SmallProblem, centre, draw_inputs
from estbench.latents import BernoulliLatents, CategoricalLatents, FullNormalLatents, Latents, NormalLatents


def _quadratic(z: Tensor, w: Tensor) -> Tensor:
    """A coupled quadratic: -1/2 sum_i (z_i - w_i)^2 + z_1 z_D / 2."""
    return -0.5 * (z - w).square().sum(-1) + 0.5 * z[..., 0] * z[..., -1]


def _cosine(z: Tensor, w: Tensor) -> Tensor:
    """cos(w . z) + w . z."""
    projection = (w * z).sum(-1)
    return projection.cos() + projection


def _decoder(z: Tensor, w: Tensor) -> Tensor:
    """Log-likelihood of three pixels, 1, 0 and 1, whose logits are linear in z: a sigmoid belief network.

    The log-likelihood of fair pixels is subtracted. This constant changes no gradient and would only be noise for score
    functions.
    """
    logits = w[..., :1] + (w * z).sum(-1, keepdim=True) * z.new_tensor([1.0, -0.5, 2.0])
    pixels = z.new_tensor([1.0, 0.0, 1.0])
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, pixels.expand_as(logits), reduction="none"
    )
    return (math.log(2) - cross_entropy).sum(-1)


def _exponential(z: Tensor, w: Tensor) -> Tensor:
    """exp(w . z / 2), which is not a polynomial of low degree."""
    return (0.5 * (w * z).sum(-1)).exp()


INTEGRANDS: dict[str, Integrand] = {
    "quadratic": _quadratic,
    "cosine": _cosine,
    "decoder": _decoder,
    "exponential": _exponential,
}


def _make_problem(latents: Latents, integrand: str, seed: int, *, analytic_kl: bool, samples: int = 1) -> SmallProblem:
    kl = "multi-sample" if samples > 1 else f"{'analytic' if analytic_kl else 'sampled'} KL"
    name = f"{latents.name}, {integrand}, {kl}"
    outputs, weights = draw_inputs(latents, seed)
    params = latents.split(0.8 * outputs)
    if "log_scale" in params:
        params["log_scale"] = 0.5 * params["log_scale"] - 0.2
    return centre(SmallProblem(name, latents, params, weights, INTEGRANDS[integrand], analytic_kl, samples))


SMALL: tuple[SmallProblem, ...] = (
    _make_problem(NormalLatents(2), "quadratic", 134, analytic_kl=True),
    _make_problem(NormalLatents(2), "cosine", 149, analytic_kl=False),
    _make_problem(NormalLatents(2), "decoder", 88, analytic_kl=True),
    _make_problem(FullNormalLatents(2), "quadratic", 30, analytic_kl=True),
    _make_problem(FullNormalLatents(2), "cosine", 35, analytic_kl=False),
    _make_problem(FullNormalLatents(2), "decoder", 19, analytic_kl=True),
    _make_problem(BernoulliLatents(3), "quadratic", 3118, analytic_kl=True),
    _make_problem(BernoulliLatents(3), "exponential", 3240, analytic_kl=False),
    _make_problem(BernoulliLatents(3), "decoder", 2886, analytic_kl=True),
    _make_problem(CategoricalLatents(2, 3), "quadratic", 3296, analytic_kl=True),
    _make_problem(CategoricalLatents(2, 3), "exponential", 3418, analytic_kl=False),
    _make_problem(CategoricalLatents(2, 3), "decoder", 3064, analytic_kl=True),
    _make_problem(NormalLatents(1), "quadratic", 3001, analytic_kl=False, samples=3),
    _make_problem(NormalLatents(1), "cosine", 2684, analytic_kl=False, samples=2),
    _make_problem(NormalLatents(1), "decoder", 2769, analytic_kl=False, samples=3),
    _make_problem(BernoulliLatents(2), "quadratic", 3324, analytic_kl=False, samples=3),
    _make_problem(BernoulliLatents(2), "exponential", 3557, analytic_kl=False, samples=2),
    _make_problem(BernoulliLatents(2), "decoder", 3092, analytic_kl=False, samples=2),
    _make_problem(CategoricalLatents(1, 3), "quadratic", 3502, analytic_kl=False, samples=2),
    _make_problem(CategoricalLatents(1, 3), "exponential", 3735, analytic_kl=False, samples=2),
    _make_problem(CategoricalLatents(1, 3), "decoder", 3270, analytic_kl=False, samples=2),
)
