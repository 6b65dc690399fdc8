r"""Bounds on log p(x), with the same draws for every estimator.

    ELBO      = E_q[log p(x|z)] - KL(q(z|x) || p(z))
    IWAE-K    = E_q[log (1/K) sum_k w_k],         log w = log p(x, z) - log q(z|x)
                                                  (Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519)

Both come from the same draws per example. The KL is in closed form if there is one, whichever KL the problem trains
with, and sampled otherwise. They are the true bounds even if training ascends something else: a weighted KL. The ELBO
is also given in its two parts, and the latents that carry information are counted: unit u is active if

    Var_x(E_q(z|x)[z_u]) > 0.01                   (Burda et al., section 5.2)

over the examples; a unit with several categories is active if one of them is. Of several layers, the first counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.devices import double, in_pieces
from estbench.errors import EstbenchError
from estbench.measure.frozen import frozen
from estbench.problems import Objective, Problem
from estbench.problems.objective import BoundTerms
from estbench.randomness import seeded

# Rows (samples x examples) of one decoder call. On a CPU a call that fits the cache is 2.5 times faster than one
# that does not; a GPU wants many rows.
ROWS, ROWS_ON_DEVICE = 1024, 65_536
# A latent is active if the variance of its posterior mean over the examples is above this.
ACTIVE_VARIANCE = 0.01


class ElboEstimate(NamedTuple):
    """The mean of both bounds over examples, in nats per example (higher is better), and what the ELBO is made of.

    ``elbo`` = ``reconstruction`` - ``kl``, where the reconstruction is E_q[log p(x|z)]. ``active_units`` is the number
    of latents that carry information; None if the mean of q is not known.
    """

    elbo: float
    iwae: float
    reconstruction: float
    kl: float
    active_units: int | None


def evaluate_elbo(problem: Problem, x: Tensor, num_samples: int, seed: int, *, own_bound: bool = False) -> ElboEstimate:
    """Estimate the ELBO and the IWAE bound of a problem.

    The draws depend only on ``seed``. Torch's random state is left as it was, and so is the problem, which is measured
    in eval mode. Memory is bounded by splitting over examples and, if that is not enough, over samples.

    Parameters
    ----------
    problem
        The model, at its current weights.
    x
        Observations, (N, X), as the model sees them (binarised).
    num_samples
        K, the draws of each example, at least 1.
    seed
        The seed of the draws.
    own_bound
        Whether the IWAE bound is that of the problem's objective, if this is a multi-sample bound: then it has its K,
        and ``num_samples`` is rounded up to a multiple of K.

    Raises
    ------
    EstbenchError
        For no draws or no observations.

    Examples
    --------
    >>> import torch
    >>> from estbench import measure, problems
    >>> problem = problems.create("gaussian_toy[loc=0.5]")
    >>> estimate = measure.evaluate_elbo(problem, torch.zeros(1000, 1), num_samples=100, seed=0)
    >>> round(estimate.elbo, 1)  # L is -1
    -1.0
    """
    if num_samples < 1 or len(x) == 0:
        raise EstbenchError(f"bounds take at least one draw and one observation, got {num_samples} and {len(x)}")
    rows = ROWS if problem.device.type == "cpu" else ROWS_ON_DEVICE
    sums = double(x.new_zeros(3))
    means: list[Tensor | None] = []
    evaluator = _Evaluator(problem, rows)
    with frozen(problem), seeded(seed, problem.device), torch.inference_mode():
        own = problem(x[:1]).importance_samples if own_bound else 1
        draws = math.ceil(num_samples / own) * own
        K = own if own > 1 else draws
        for batch in torch.split(x, max(1, rows // draws)):
            objective = problem(batch)
            pieces = [
                evaluator.terms(objective, batch, objective.q.sample((min(rows, draws - start),)))
                for start in range(0, draws, rows)
            ]
            elbo, log_weight, log_likelihood = (double(torch.cat(parts)) for parts in zip(*pieces, strict=True))
            bound = log_weight.view(-1, K, len(batch)).logsumexp(1).mean(0) - math.log(K)
            sums += torch.stack([elbo.mean(0).sum(), bound.sum(), log_likelihood.mean(0).sum()])
            means.append(_mean(objective.q))
    elbo_mean, iwae, reconstruction = (sums / len(x)).tolist()
    return ElboEstimate(elbo_mean, iwae, reconstruction, reconstruction - elbo_mean, _active_units(means))


class _Evaluator:
    """Evaluates the terms of the bounds, in pieces of half as many rows each time that memory is short.

    The draws stay the same, so the bounds do too.
    """

    def __init__(self, problem: Problem, rows: int) -> None:
        self.problem, self.rows = problem, rows

    def terms(self, objective: Objective, batch: Tensor, z: Tensor) -> BoundTerms:
        """Return the terms of draws z, (S, B, ...), of a batch, (B, X), whose objective is given."""
        terms, self.rows = in_pieces(lambda rows: self._terms(objective, batch, z, rows), self.rows, 1, z.device)
        return terms

    def _terms(self, objective: Objective, batch: Tensor, z: Tensor, most: int) -> BoundTerms:
        if len(z) * len(batch) <= most:
            return objective.bound_terms(z)
        columns = []
        for x, draws in zip(torch.split(batch, most), torch.split(z, most, dim=1), strict=True):
            own = self.problem(x)
            rows = [own.bound_terms(part) for part in torch.split(draws, max(1, most // len(x)))]
            columns.append([torch.cat(parts) for parts in zip(*rows, strict=True)])
        return BoundTerms(*(torch.cat(parts, dim=1) for parts in zip(*columns, strict=True)))


def _mean(q: Distribution) -> Tensor | None:
    """Return the mean of q, (B, D) or (B, D, C); None if it is not known."""
    try:
        return q.mean
    except (NotImplementedError, AttributeError):
        return None


def _active_units(means: Sequence[Tensor | None]) -> int | None:
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        return None
    variance = double(torch.cat(known)).var(0, correction=0)
    if variance.dim() > 1:  # the categories of a unit, one of which is enough
        variance = variance.flatten(1).amax(1)
    return int((variance > ACTIVE_VARIANCE).sum())
