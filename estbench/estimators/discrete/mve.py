"""The straight-through surrogate of least variance among those that are exact on quadratics."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._noise import as_categorical_logits, to_one_hot
from estbench.estimators._surrogates import straight_through_surrogate
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("mve")
class MVE(Estimator):
    r"""Minimum-variance straight-through estimator (Hooper and Shekhovtsov, 2026, AISTATS).

        z ~ q,   p = softmax(eta):   dz/deta := S_z,   estimate S_z' g(z)

    with a matrix S_k for each category k, derived here from the criterion of its name. Let m_ki be row i of S_k, what
    g_i is multiplied by when k is drawn. For f(z) = a'z + z'Bz / 2 the gradient at e_k is a + B e_k, and the exact
    gradient has J(p) a + sum_k p_k (e_k - p) B_kk / 2. With J_i = p_i (e_i - p) the mean is exact

        for every a:   sum_k p_k m_ki = J_i
        for every B:   p_i m_ii = J_i / 2,   p_j m_ji + p_i m_ij = 0 for i != j

    Among these, S has the least E|S_z' g|^2 for a g of independent equal components. A multiplier mu_i (a vector) for
    each constraint of the first kind gives

        m_ki = p_i (mu_i - mu_k) / (p_i + p_k) for i != k,   sum_{k != i} w_ik (mu_i - mu_k) = J_i / 2,
        w_ik = p_i p_k / (p_i + p_k)

    one system of C equations for each latent, of a graph's Laplacian with weights w. ``reinmax`` at temperature 1 has
    weights p_i p_k in place of w and mu = e / 2: exact on the same f, and the same for two categories or equal p.

    ``slack`` = s > 0 keeps the first kind and punishes the others: E|S_z' g|^2 + |bias|^2 / s, for a B of independent
    normal entries with twice the variance on the diagonal. Then (p_i + p_k) becomes (s + p_i + p_k), and it goes from
    the above at s = 0 to straight-through as s grows. (The paper's own temperature is 1 / s.)

    Biased from the third order on. Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("mve")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "straight-through surrogate of least variance: exact on quadratics"
    reference = "hooper2026"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1
    variants = ("mve[slack=0.1]",)

    class Options(BaseOptions):
        """Options of ``mve``."""

        slack: float = Field(
            default=0.0, ge=0, description="s, how much bias on quadratics is allowed; 0 for none, large for ST"
        )

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        rows = surrogate_rows(logits.detach().softmax(-1), hard, self.options.slack)
        return straight_through_surrogate(objective, hard, (rows * logits[..., None, :]).sum(-1))


def surrogate_rows(p: Tensor, hard: Tensor, slack: float) -> Tensor:
    """Return S_z, (S, *R, B, D, C, C), for one-hot samples, (S, *R, B, D, C), of probabilities p, (*R, B, D, C).

    The system is solved for nu_i = mu_i p_i^(1/2), whose matrix has entries of order one whatever p is.
    """
    p = p.clamp(min=torch.finfo(p.dtype).tiny ** 0.5)
    root = p.sqrt()
    identity = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    total = slack + p[..., :, None] + p[..., None, :]
    share = (p[..., None, :] / total * (1 - identity)).sum(-1)  # sum_{k != i} p_k / (s + p_i + p_k)
    diagonal = (slack + p) / p * share + slack / (slack + 2 * p)
    matrix = torch.diag_embed(diagonal) - root[..., :, None] * root[..., None, :] / total * (1 - identity)
    if not slack:  # mu is known but for a constant, which cancels: choose one
        matrix = matrix + root[..., :, None] * root[..., None, :]
    score = identity - p[..., None, :]  # rows e_i - p
    scale = (slack + p) / (slack + 2 * p)
    # Positive definite; two triangular solves do not make a device wait, as a general solver does.
    factor = torch.linalg.cholesky_ex(matrix)[0]
    half = torch.linalg.solve_triangular(factor, (scale * root)[..., None] * score, upper=False)
    mu = torch.linalg.solve_triangular(factor.mT, half, upper=True) / root[..., None]
    drawn, column = hard[..., None], p[..., None]  # (S, *R, B, D, C, 1), (*R, B, D, C, 1)
    p_drawn, mu_drawn = ((drawn * each).sum(-2, keepdim=True) for each in (column, mu))
    others = ((slack + column) * mu - column * mu_drawn) / (slack + column + p_drawn)
    own = (slack * mu + column * score) / (slack + 2 * column)
    return torch.where(drawn.bool(), own, others)
