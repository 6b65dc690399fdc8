"""The loop: one backward call per replicate, right for any modules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from estbench.estimators import Estimator, surrogate_of
from estbench.failures import described
from estbench.measure.gradients._squared_lengths import Vector
from estbench.measure.gradients.differentiation import Differentiate, gradients
from estbench.measure.gradients.heavy_tails import skewed_mean_interval
from estbench.measure.gradients.moments import BATCHES, MomentAccumulator, chunk_sizes, half_differences
from estbench.measure.gradients.per_example import add_params_chunk
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval

Groups = Mapping[str, list[nn.Parameter]]


def accumulate_params(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    chunks: list[int],
    seed: int,
    accumulators: dict[tuple[str, str], MomentAccumulator],
    *,
    independent: bool = True,
    differentiate: Differentiate = gradients,
) -> None:
    """Accumulate the gradients at the variational parameters.

    If the examples are ``independent``, the replicates are further examples of one call; otherwise there is one call
    for each replicate.
    """
    with seeded(seed, problem.device), torch.no_grad():
        params = problem.encode(batch)
    with seeded(seed, problem.device):
        for count in chunks:
            if independent:
                found = _params_gradients(problem, estimator, batch, params, count, differentiate)
            else:
                # One by one, as in training; an encoder may have noise of its own.
                rows = []
                for _ in range(count):
                    with torch.no_grad():
                        params = problem.encode(batch)
                    rows.append(_params_gradients(problem, estimator, batch, params, 1, differentiate))
                found = {name: torch.cat([row[name] for row in rows]) for name in params}
            for name, gradient in found.items():
                empty = MomentAccumulator(params[name].numel(), params[name], examples=len(batch), pooled=False)
                add_params_chunk(accumulators.setdefault(("params", name), empty), gradient, cross=independent)


def _params_gradients(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    params: Mapping[str, Tensor],
    count: int,
    differentiate: Differentiate,
) -> dict[str, Tensor]:
    """Return the gradient of each example at the variational parameters in ``count`` replicates, (n, B, ...) each.

    The replicates of an example are examples too, (n B, ...), so that modules see a batch as in training.
    """
    leaves = {name: _repeated(value.detach(), count).requires_grad_() for name, value in params.items()}
    surrogate = surrogate_of(estimator, problem.objective(leaves, _repeated(batch, count))).sum()
    found = differentiate(surrogate, list(leaves.values()))
    return {name: row.view(count, len(batch), *row.shape[1:]) for name, row in zip(leaves, found, strict=True)}


def _repeated(rows: Tensor, count: int) -> Tensor:
    """Return n copies of rows, (B, ...) to (n B, ...)."""
    return rows.expand(count, *rows.shape).flatten(0, 1).clone()


def accumulate_weights(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: Groups,
    replicates: int,
    seed: int,
    accumulators: dict[tuple[str, str], MomentAccumulator],
    differentiate: Differentiate = gradients,
) -> None:
    """Accumulate the gradients at the weights of each group, (P,), by a loop of backward calls."""
    weights = [weight for group in groups.values() for weight in group]
    for group, own in groups.items():
        size = sum(weight.numel() for weight in own)
        accumulators["weights", group] = MomentAccumulator(size, weights[0].detach(), examples=len(batch))
    with seeded(seed, problem.device):
        for count in chunk_sizes(replicates, 2):
            drawn = [differentiate(surrogate_of(estimator, problem(batch)).mean(), weights) for _ in range(count)]
            rows = [iter(replicate) for replicate in drawn]
            for group, own in groups.items():
                vectors = torch.stack([torch.cat([next(row).flatten() for _ in own]) for row in rows])
                accumulators["weights", group].next_sum.add_(vectors.sum(0))
                accumulators["weights", group].add(count, half_differences(vectors).double())


def data_variances(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: Groups,
    chunks: list[int],
    seed: int,
    accumulators: Mapping[tuple[str, str], MomentAccumulator],
    differentiate: Differentiate = gradients,
) -> dict[str, Interval]:
    """Return the data's variance by group, from the gradients of each example averaged over replicates.

    With m_b these means, of R replicates, 1/(B-1) sum_b |m_b - mbar|^2 less the estimator's share is the variance
    between examples, and a mean over B has 1/B of it. The interval is from pseudo-values of at most ``BATCHES`` batches
    of examples. For modules that treat the examples one by one: see ``why_examples_mix``.
    """
    examples, replicates = len(batch), sum(chunks)
    batches = min(BATCHES, examples)
    weights = [weight for group in groups.values() for weight in group]
    sums = {group: [torch.zeros((), dtype=torch.float64) for _ in range(batches)] for group in groups}
    squares = {group: np.zeros(batches) for group in groups}
    sizes = np.zeros(batches)
    with seeded(seed, problem.device):
        for index, x in enumerate(torch.split(batch, 1)):
            at = index % batches
            sizes[at] += 1
            total = [torch.zeros_like(weight) for weight in weights]
            for count in chunks:
                repeated = {name: value.expand(count, *value.shape[1:]) for name, value in problem.encode(x).items()}
                objective = problem.objective(repeated, x.expand(count, *x.shape[1:]))
                surrogate = surrogate_of(estimator, objective).sum() / replicates
                total = [a + b for a, b in zip(total, differentiate(surrogate, weights), strict=True)]
            parts = iter(total)
            for group, own in groups.items():
                mean = torch.cat([next(parts).flatten() for _ in own]).double().cpu()
                sums[group][at] = sums[group][at] + mean
                squares[group][at] += float(mean @ mean)
    found = {}
    for group in groups:
        within = accumulators["weights", group].variance * examples / replicates
        found[group] = _between(sums[group], squares[group], sizes, within)
    return found


def _between(sums: list[Tensor], squares: Vector, sizes: Vector, within: float) -> Interval:
    """Return it from sums and squared norms of the examples' means by batch; ``within`` is the noise of a mean."""
    examples = sizes.sum()
    vectors = torch.stack(sums)
    gram = (vectors @ vectors.T).numpy()

    def estimate(squared: float, total: float, count: float) -> float:
        return float((squared - total / count) / (count - 1) - within) / float(examples)

    value = estimate(squares.sum(), gram.sum(), examples)
    left = [
        estimate(squares.sum() - squares[k], gram.sum() - 2 * gram[k].sum() + gram[k, k], examples - sizes[k])
        for k in range(len(sizes))
        if examples - sizes[k] > 1
    ]
    # Pseudo-values of a jackknife, which are nearly independent and have the value as their mean.
    pseudo = len(left) * value - (len(left) - 1) * np.array(left)
    return skewed_mean_interval(pseudo - pseudo.mean() + value)


@torch.no_grad()
def why_examples_mix(problem: Problem, batch: Tensor) -> str:
    """Say why the examples have no separate gradients; empty if the modules treat them one by one.

    A normalisation over the batch mixes them, and an encoder with noise gives other gradients each time.
    """
    try:
        independent = _encodes_independently(problem, batch) and _decodes_independently(problem, batch)
    except Exception as error:  # noqa: BLE001  (modules may be a user's code, and refuse another number of examples)
        return f"the model cannot take single examples: {described(error)}"
    return "" if independent else "its modules mix the examples, or its encoder has noise of its own"


def _encodes_independently(problem: Problem, batch: Tensor) -> bool:
    with seeded(0, problem.device):
        whole = problem.encode(batch)
    with seeded(1, problem.device):
        first = problem.encode(batch[:1])
    return all(_close(value[:1], first[name]) for name, value in whole.items())


def _decodes_independently(problem: Problem, batch: Tensor) -> bool:
    """Return whether f of the first two examples does not depend on the others, under one seed if it is random."""
    with seeded(0, problem.device):
        z = problem(batch).q.sample((1,))
    rows = torch.arange(len(batch), device=batch.device)
    other_rows = torch.where(rows == 1, 1, 0)  # all but the first two are replaced by the first
    values = []
    for chosen in (rows, other_rows):
        with seeded(0, problem.device):
            values.append(problem(batch[chosen]).f(z[:, chosen])[:, :2])
    return _close(*values)


def _close(first: Tensor, second: Tensor) -> bool:
    tolerance = 1e-8 if first.dtype == torch.float64 else 1e-4
    return torch.allclose(first, second, rtol=tolerance, atol=tolerance)
