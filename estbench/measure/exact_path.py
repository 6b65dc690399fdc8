"""The exact path: one backward call per replicate, right for whatever the modules are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from estbench.estimators import Estimator
from estbench.measure.fast_path import add_params, gradients
from estbench.measure.moments import BATCHES, Tally, chunk_sizes, half_differences
from estbench.measure.randomness import seeded
from estbench.measure.squared_lengths import Vector
from estbench.problems import Problem
from estbench.stats import FEWEST_FOR_AN_INTERVAL, Interval, jackknife_interval

Groups = Mapping[str, list[nn.Parameter]]


def tally_params(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    chunks: list[int],
    seed: int,
    tallies: dict[tuple[str, str], Tally],
) -> None:
    """The variational parameters alone, which are expanded whatever the weights are."""
    with torch.no_grad():
        params = problem.encode(batch)
    with seeded(seed, problem.device):
        for count in chunks:
            for name, gradient in _expanded_gradients(problem, estimator, batch, params, count).items():
                empty = Tally(params[name].numel(), params[name], examples=len(batch), pooled=False)
                add_params(tallies.setdefault(("params", name), empty), gradient)


def _expanded_gradients(
    problem: Problem, estimator: Estimator, batch: Tensor, params: Mapping[str, Tensor], count: int
) -> dict[str, Tensor]:
    """Every example's own gradient at the variational parameters in ``count`` replicates, (n, B, ...) each."""
    expanded = {name: value.expand(count, *value.shape).clone().requires_grad_() for name, value in params.items()}
    surrogate = estimator(problem.objective(expanded, batch)).sum()
    return dict(zip(expanded, gradients(surrogate, list(expanded.values())), strict=True))


def tally_weights(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: Groups,
    replicates: int,
    seed: int,
    tallies: dict[tuple[str, str], Tally],
) -> None:
    """The weights of each group, (P,): a loop of backward calls."""
    weights = [weight for group in groups.values() for weight in group]
    for group, own in groups.items():
        size = sum(weight.numel() for weight in own)
        tallies["weights", group] = Tally(size, weights[0].detach(), examples=len(batch))
    with seeded(seed, problem.device):
        for count in chunk_sizes(replicates, 2):
            drawn = [gradients(estimator(problem(batch)).mean(), weights) for _ in range(count)]
            rows = [iter(replicate) for replicate in drawn]
            for group, own in groups.items():
                vectors = torch.stack([torch.cat([next(row).flatten() for _ in own]) for row in rows])
                tallies["weights", group].slot.add_(vectors.sum(0))
                tallies["weights", group].add(count, half_differences(vectors).double())


def between_examples(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: Groups,
    chunks: list[int],
    seed: int,
    tallies: Mapping[tuple[str, str], Tally],
) -> dict[str, Interval]:
    """The data's variance by group: the gradient of each example's surrogate, averaged over replicates.

    With m_b these means, of R replicates, 1/(B-1) sum_b |m_b - mbar|^2 less the estimator's share is the variance
    between examples, and a mean over B has 1/B of it. The interval is jackknife over at most ``BATCHES`` batches of
    examples. For modules that treat the examples one by one: see ``separate``.
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
                live = problem.encode(x)
                expanded = {name: value.expand(count, *value.shape) for name, value in live.items()}
                surrogate = estimator(problem.objective(expanded, x)).sum() / replicates
                total = [a + b for a, b in zip(total, gradients(surrogate, weights), strict=True)]
            parts = iter(total)
            for group, own in groups.items():
                mean = torch.cat([next(parts).flatten() for _ in own]).double().cpu()
                sums[group][at] = sums[group][at] + mean
                squares[group][at] += float(mean @ mean)
    found = {}
    for group in groups:
        within = tallies["weights", group].variance * examples / replicates
        found[group] = _between(sums[group], squares[group], sizes, within)
    return found


def _between(sums: list[Tensor], squares: Vector, sizes: Vector, within: float) -> Interval:
    """From sums and squared norms of the examples' means by batch; ``within`` is the noise that is left in a mean."""
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
    if len(left) < FEWEST_FOR_AN_INTERVAL:
        return Interval(value, math.nan, math.nan, len(left))
    return jackknife_interval(value, np.array(left))


@torch.no_grad()
def separate(problem: Problem, batch: Tensor) -> bool:
    """Whether the modules treat the examples one by one, as a batch normalisation does not."""
    whole, first = problem.encode(batch), problem.encode(batch[:2])
    tolerance = 1e-8 if next(iter(whole.values())).dtype == torch.float64 else 1e-4
    if not all(torch.allclose(whole[name][:2], first[name], rtol=tolerance, atol=tolerance) for name in whole):
        return False
    with seeded(0, problem.device):
        z = problem.objective(whole, batch).q.sample((1,))
    everyone = torch.arange(len(batch), device=batch.device)
    replaced = torch.where(everyone == 1, 1, 0)  # but for the first two, by the first
    values = []
    for company in (everyone, replaced):
        objective = problem(batch[company])
        with seeded(0, problem.device):  # f may have noise of its own
            values.append(objective.f(z[:, company])[:, :2])
    return torch.allclose(values[0], values[1], rtol=tolerance, atol=tolerance)
