"""Bayesian logistic regression: one q for all the data, seen in minibatches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn

from estbench.datasets import Dataset
from estbench.datasets.tabular import load_table
from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.problems.objective import DataIndex, Objective
from estbench.problems.problem import Problem, register

# Trapezoidal rule for an expectation under N(0, 1). Its error falls as exp(-2 pi d / step), where d is the distance of
# the nearest pole from the real line: pi / s for log sigmoid(m + s e). So it is at rounding for s up to 60.
GRID, STEP = 9.0, 0.01


@register("logistic_regression")
class LogisticRegression(Problem):
    r"""Bayesian logistic regression (Mohamed et al., 2020, section 8, arXiv:1906.10652).

        w ~ N(0, I),   y_n|x_n, w ~ Bernoulli(sigmoid(w . x_n)),   q(w) = N(loc, diag exp(2 log_scale))
        L = sum_n E_q[log p(y_n|x_n, w)] - KL(q || p)

    q belongs to the whole data set and not to a row of it, so an *example* is a whole minibatch: with M rows out of N,

        L_b = (N / M) sum_{n in b} E_q[log p(y_n|x_n, w)] - KL(q || p),   E_b[L_b] = L

    Each example b has a copy of q's parameters and draws of w of its own, which all M rows share, so the surrogate of
    an example depends only on its own noise, and the mean over the B examples of a step estimates grad L without
    bias. ``batch_size=1`` is the usual algorithm, one minibatch a step; a larger one averages B independent ones.
    The variance between examples is that of drawing the minibatch.

    The minibatches are the N windows of M neighbours on a fixed shuffled circle: every row is in exactly M of them, so
    the mean of L_b over all windows is exactly L. The training split holds these windows. Validation and test hold one
    example, all N rows: there is no split, as in the paper, and their ``elbo`` is L itself, in nats per data set.

    E_q[log p(y_n|x_n, w)] is an integral over the one normal variable w . x_n, so the exact L and its gradient come
    from quadrature, to rounding. Features are standardised and have a column of ones. Breast cancer is then linearly
    separable: the prior decides how large w is.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("logistic_regression[minibatch=8]")
    >>> x = torch.from_numpy(problem.data.train[:3])  # 3 examples, each the indices of 8 rows
    >>> problem(x).exact().shape
    torch.Size([3])
    """

    summary = "Bayesian logistic regression on breast cancer or German credit, exact by one-dimensional quadrature"
    latents = "normal"

    class Options(BaseOptions):
        """Options of ``logistic_regression``."""

        dataset: Literal["breast_cancer", "german_credit"] = Field(default="breast_cancer", description="the table")
        minibatch: int = Field(
            default=32, ge=1, description="M, the rows of a minibatch; all of them if there are fewer"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or LogisticRegression.Options()
        table = load_table(self.options.dataset)
        self.data = minibatch_windows(self.options.dataset, len(table.labels), self.options.minibatch)
        self.features: Tensor
        self.signs: Tensor  # +1 and -1 for the labels 1 and 0
        self.register_buffer("features", torch.from_numpy(table.features))
        self.register_buffer("signs", torch.from_numpy(2 * table.labels - 1))
        size = self.features.shape[1]
        self.family = NormalLatents(size)
        self.loc = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"{options.dataset}-v1-{cls.name}"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return intensities

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q, once for each minibatch, (B, D)."""
        return {"loc": self.loc.expand(len(x), -1), "log_scale": self.log_scale.expand(len(x), -1)}

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L_b for minibatches of rows x, (B, M), at variational parameters of (*R, B, D).

        Every training example begins with another row, which is its ``data_index``.
        """
        rows = x.long()
        whole = x.shape[1] == len(self.signs)
        signed = self.signs[rows].unsqueeze(-1) * self.features[rows]  # (B, M, D): y_n x_n
        factor = len(self.signs) / x.shape[1]
        standard = {name: torch.zeros_like(value) for name, value in params.items()}

        def log_likelihood(w: Tensor) -> Tensor:
            return factor * F.logsigmoid(torch.einsum("...bd,bmd->...bm", w, signed)).sum(-1)

        def expectation() -> Tensor:
            loc, scale = params["loc"], params["log_scale"].exp()
            mean = torch.einsum("...bd,bmd->...bm", loc, signed)
            deviation = torch.einsum("...bd,bmd->...bm", scale.square(), signed.square()).sqrt()
            return factor * _expected_log_sigmoid(mean, deviation).sum(-1) - self.family.kl(params, standard)

        return Objective(
            params,
            self.family.family,
            log_likelihood,
            lambda: self.family.family(standard),
            kl=lambda: self.family.kl(params, standard),
            expectation=expectation,
            data_index=None if whole else DataIndex(rows[:, 0], len(self.signs)),
        )


def minibatch_windows(name: str, rows: int, size: int) -> Dataset:
    """Return a data set of indices of rows: training examples, (N, M), and all rows, (1, N), for the other splits."""
    circle = np.random.RandomState(0).permutation(rows)
    places = np.arange(rows)[:, None] + np.arange(min(size, rows))
    everything = np.arange(rows)[None].astype(np.float32)
    windows = circle[places % rows].astype(np.float32)
    return Dataset(name, windows, everything, everything, shape=(1, windows.shape[1]))


def _expected_log_sigmoid(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return E[log sigmoid(mean + deviation e)], e ~ N(0, 1), of any shape."""
    e = torch.arange(-GRID, GRID + STEP / 2, STEP, dtype=mean.dtype, device=mean.device)
    density = (-0.5 * e.square()).exp() * (STEP / math.sqrt(2 * math.pi))
    return F.logsigmoid(mean.unsqueeze(-1) + deviation.unsqueeze(-1) * e) @ density
