r"""Bounds on log p(x), with the same draws for every estimator.

    ELBO      = E_q[log p(x|z)] - KL(q(z|x) || p(z))
    IWAE-K    = E_q[log (1/K) sum_k w_k],         log w = log p(x, z) - log q(z|x)
                                                  (Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519)

Both come from the same K draws per example. The KL is in closed form if there is one, whichever KL the problem trains
with, and sampled otherwise. They are the true bounds even if training ascends something else: a weighted KL.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.measure.frozen import frozen
from estbench.problems import Problem
from estbench.randomness import seeded

# Rows (samples x examples) of one decoder call. On a CPU a call that fits the cache is 2.5 times faster than one
# that does not; a GPU wants many rows.
ROWS = {"cpu": 1024, "cuda": 65_536}


class ElboEstimate(NamedTuple):
    """The mean of both bounds over examples, in nats per example; higher is better."""

    elbo: float
    iwae: float


def evaluate_elbo(problem: Problem, x: Tensor, num_samples: int, seed: int) -> ElboEstimate:
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
    rows = ROWS.get(problem.device.type, ROWS["cpu"])
    examples = max(1, rows // num_samples)
    elbo = x.new_zeros((), dtype=torch.float64)
    iwae = elbo.clone()
    with frozen(problem), seeded(seed, problem.device), torch.inference_mode():
        for batch in torch.split(x, examples):
            objective = problem(batch)
            pieces = [
                objective.bound_terms(objective.q.sample((min(rows, num_samples - start),)))
                for start in range(0, num_samples, rows)
            ]
            terms, log_weights = (torch.cat(parts).double() for parts in zip(*pieces, strict=True))
            elbo += terms.mean(0).sum()
            iwae += (log_weights.logsumexp(0) - math.log(num_samples)).sum()
    return ElboEstimate(float(elbo) / len(x), float(iwae) / len(x))
