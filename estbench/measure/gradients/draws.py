"""Independent draws of the gradient with respect to the variational parameters, kept one by one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from estbench.estimators import Estimator, surrogate_of
from estbench.measure.frozen import frozen
from estbench.problems import Problem
from estbench.randomness import seeded

# Rows (replicates x examples x evaluations) of one call.
ROWS = 200_000


def draw_gradients(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    replicates: int = 100,
    seed: int = 0,
    *,
    params: Mapping[str, Tensor] | None = None,
    rows: int = ROWS,
) -> dict[str, Tensor]:
    """Draw estimates of every example's own gradient with respect to the variational parameters.

    Use it where the draws themselves are needed, one by one; ``probe`` has their moments, with intervals.

    Parameters
    ----------
    problem, estimator
        Both are in eval mode while they are measured and are left as they were, and so is torch's random state.
    batch
        Observations, (B, X), as the model sees them.
    replicates
        R, the number of independent draws.
    seed
        Of the draws.
    params
        The variational parameters at which gradients are taken, (B, D) each; by default ``problem.encode(batch)``.
    rows
        The most rows (replicates x examples x evaluations of f) of one call. It decides the order of random draws.

    Returns
    -------
    The gradients in nats per unit of the parameter, (R, B, D) for each parameter's name. Row b is the gradient of
    example b's own surrogate, and not of the minibatch mean.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, measure, problems
    >>> problem, estimator = problems.create("bernoulli_toy"), estimators.create("reinforce")
    >>> draws = measure.draw_gradients(problem, estimator, torch.zeros(3, 1), replicates=10)
    >>> draws["logits"].shape
    torch.Size([10, 3, 1])
    """
    with frozen(problem, estimator), seeded(seed, batch.device):
        with torch.no_grad():
            params = (
                problem.encode(batch) if params is None else {name: value.detach() for name, value in params.items()}
            )
            evaluations = estimator.count_evaluations(problem.objective(params, batch))
        largest = max(1, rows // (len(batch) * max(evaluations, 1)))
        chunks: dict[str, list[Tensor]] = {name: [] for name in params}
        for start in range(0, replicates, largest):
            count = min(largest, replicates - start)
            leaves = {
                name: value.expand(count, *value.shape).clone().requires_grad_() for name, value in params.items()
            }
            surrogate = surrogate_of(estimator, problem.objective(leaves, batch)).sum()
            gradients = torch.autograd.grad(surrogate, list(leaves.values()), materialize_grads=True)
            for name, gradient in zip(leaves, gradients, strict=True):
                chunks[name].append(gradient)
    return {name: torch.cat(parts) for name, parts in chunks.items()}
