"""Second-order straight-through gradients: exact in the mean if f is quadratic in each latent."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, to_one_hot
from estbench.estimators._surrogates import softmax_jacobian, straight_through_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("reinmax")
class ReinMax(Estimator):
    r"""ReinMax: Heun's method in place of the Euler step of straight-through (Liu et al., 2023, arXiv:2304.08612).

        z ~ q,   p = softmax(eta),   r = (softmax(eta / tau) + z) / 2,   J(q) = diag q - q q'
        dz/deta := 2 J(r) - J(p) / 2

    At tau = 1 the mean is exact if f is quadratic in every latent, products of different latents included: then
    f(e_c) - f(e_k) = (e_c - e_k)' (g(e_c) + g(e_k)) / 2 for the gradient g of f. It is biased from the third order
    on. tau > 1 adds bias, mostly for less variance.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("reinmax")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "second-order straight-through: exact on quadratics at temperature 1"
    reference = "liu2023"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    class Options(BaseOptions):
        """Options of ``reinmax``."""

        temperature: float = Field(default=1.0, ge=1, description="tau, of the softmax in the Jacobian")

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        halfway = (torch.softmax(logits / self.options.temperature, -1) + hard) / 2
        tangent = 2 * softmax_jacobian(halfway, logits) - softmax_jacobian(logits.softmax(-1), logits) / 2
        return straight_through_surrogate(objective, hard, tangent)


@register("zgr")
class ZGR(Estimator):
    r"""Zero-temperature limit of Gumbel-Rao (Shekhovtsov, 2023, PMLR 202:30931).

        z ~ q,   p = softmax(eta):   dz/deta := (J(p) + (z - p) (z - p)') / 2

    The average of straight-through and of the score function of f's linear part at z (DARN). A one-hot z has
    z z' = diag z, and so this is the Jacobian of ``reinmax`` at temperature 1 written another way: the same gradient,
    sample by sample, with the same exactness on quadratics, from two products fewer.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("zgr")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "zero-temperature limit of Gumbel-Rao; equals reinmax at temperature 1"
    reference = "shekhovtsov2023"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        p = logits.softmax(-1)
        score = (hard - p).detach()
        tangent = (softmax_jacobian(p, logits) + score * (score * logits).sum(-1, keepdim=True)) / 2
        return straight_through_surrogate(objective, hard, tangent)
