r"""Bias of a gradient estimate: against the exact gradient, or against a reference estimator with many draws.

    bias2  = |gbar - g*|^2 - variance / R                                   against the exact gradient g*
    bias2  = |gbar - hbar|^2 - variance / R - variance_h / R_h              against a reference h

Both are unbiased for |E g - g*|^2: without the last terms, an unbiased estimator would be shown a bias of its own
noise. The interval is that of ``squared_lengths``, from batches of both sides. ``bias_bound`` is the equivalence bound:
with 95 % confidence the bias is below this share of the reference's length (it is the upper end of the two-sided
interval, with some to spare). ``cosine`` is that of the angle between the two means, each length being the unbiased
one; it has no interval, because none was found that holds 95 % for small angles and short means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estbench.measure.frozen import frozen
from estbench.measure.gradients.differentiation import gradients
from estbench.measure.gradients.groups import groups_of
from estbench.measure.gradients.moments import Tally, distance, row
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval


@dataclass(frozen=True)
class Reference:
    """Gradients to compare an estimate with, by space and group: exact ones, (P,), or another estimator's tallies."""

    name: str
    means: Mapping[tuple[str, str], Tensor]
    tallies: Mapping[tuple[str, str], Tally] | None = None


def exact_reference(problem: Problem, batch: Tensor, *, layers: bool = False) -> Reference:
    """The exact gradient of the minibatch-mean objective; ``EstbenchError`` where the problem has none.

    Examples are taken one by one: an enumeration is large. What is constant, or what the objective does not depend on,
    has a gradient of zero.
    """
    groups = groups_of(problem, layers=layers)
    weights = [weight for group in groups.values() for weight in group]
    total = [torch.zeros_like(weight) for weight in weights]
    rows: dict[str, list[Tensor]] = {}
    with frozen(problem), seeded(0, problem.device):
        for x in torch.split(batch, 1):
            params = {
                name: value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
                for name, value in problem.encode(x).items()
            }
            value = problem.objective(params, x).exact().sum() / len(batch)
            found = gradients(value, [*params.values(), *weights])
            for name, gradient in zip(params, found, strict=False):
                rows.setdefault(name, []).append(gradient.flatten())
            total = [a + b for a, b in zip(total, found[len(params) :], strict=True)]
    parts = iter(total)
    means = {("params", name): torch.cat(found) for name, found in rows.items()}
    means |= {("weights", name): torch.cat([next(parts).flatten() for _ in own]) for name, own in groups.items()}
    return Reference("the exact gradient", means)


def bias_rows(tallies: Mapping[tuple[str, str], Tally], reference: Reference) -> Iterator[dict[str, Any]]:
    """Rows of ``bias2``, ``bias_bound`` and ``cosine`` of each group that both sides have."""
    for (space, group), tally in tallies.items():
        if (space, group) not in reference.means:
            continue
        other = reference.tallies[space, group] if reference.tallies else None
        for statistic, interval in compare(tally, reference.means[space, group], other).items():
            yield row(space, group, statistic, interval, tally.count)


def compare(tally: Tally, mean: Tensor, other: Tally | None) -> dict[str, Interval]:
    """Bias, its bound and the cosine, of one group; ``other`` is the reference if that has noise of its own."""
    bias2 = distance(tally, mean, other).interval
    intervals = {"bias2": bias2}
    length2 = other.squared_length.value if other else float(mean.double().square().sum())
    if length2 > 0 and not math.isnan(bias2.high):
        bound = math.sqrt(max(0.0, bias2.high) / length2)
        intervals["bias_bound"] = Interval(bound, 0.0, bound, bias2.n)
        intervals["cosine"] = Interval(_cosine(tally, mean.double(), length2), math.nan, math.nan, 0)
    return intervals


def _cosine(tally: Tally, mean: Tensor, length2: float) -> float:
    """The angle's cosine; NaN where the noise hides the length of the mean."""
    own = tally.squared_length.value
    return float(tally.mean @ mean) / math.sqrt(own * length2) if own > 0 else math.nan
