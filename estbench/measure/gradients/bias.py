r"""Bias of a gradient estimate: against the exact gradient, or against a reference estimator with many draws.

    bias2  = |gbar - g*|^2 - variance / R                                   against the exact gradient g*
    bias2  = |gbar - hbar|^2 - variance / R - variance_h / R_h              against a reference h

Both are unbiased for |E g - g*|^2: without the last terms, an unbiased estimator would be shown a bias of its own
noise. The interval is that of ``_squared_lengths``, from batches of both sides. ``bias_bound`` is the equivalence
bound: with 95 % confidence the bias is below this share of the reference's length (it is the upper end of the two-sided
interval, and so conservative). ``cosine`` is that of the angle between the two means, each length being the unbiased
one; it has no interval, because none was found that holds 95 % for small angles and short means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estbench.devices import in_double
from estbench.measure.frozen import frozen
from estbench.measure.gradients.differentiation import gradients
from estbench.measure.gradients.groups import groups_of
from estbench.measure.gradients.moments import MomentAccumulator, distance, table_row
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval


@dataclass(frozen=True)
class Reference:
    """Gradients to compare an estimate with, (P,), by space and group.

    ``accumulators`` are those of the reference estimator, whose means have noise; None for the exact gradient.
    """

    name: str
    means: Mapping[tuple[str, str], Tensor]
    accumulators: Mapping[tuple[str, str], MomentAccumulator] | None = None


def exact_reference(problem: Problem, batch: Tensor, *, layers: bool = False) -> Reference:
    """Compute the exact gradient of the minibatch-mean objective, to compare a probe with.

    Examples are taken one by one, because an enumeration is large. The gradient is zero for what is constant, or what
    the objective does not depend on.

    Parameters
    ----------
    problem
        The model, at its current weights.
    batch
        Observations, (B, X).
    layers
        Split the groups by layer, as in ``probe``.

    Raises
    ------
    EstbenchError
        If the objective has no exact value: see ``Objective.exact``.

    Examples
    --------
    >>> import torch
    >>> from estbench import measure, problems
    >>> reference = measure.exact_reference(problems.create("gaussian_toy"), torch.zeros(4, 1))
    >>> reference.means["params", "loc"]  # of each example, and divided by their number
    tensor([-0.2500, -0.2500, -0.2500, -0.2500])
    """
    problem, batch = in_double(problem.device, problem, batch)  # as the probe that is compared with it
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
            each = gradients(value, [*params.values(), *weights])
            for name, gradient in zip(params, each, strict=False):
                rows.setdefault(name, []).append(gradient.flatten())
            total = [a + b for a, b in zip(total, each[len(params) :], strict=True)]
    parts = iter(total)
    means = {("params", name): torch.cat(own) for name, own in rows.items()}
    means |= {("weights", name): torch.cat([next(parts).flatten() for _ in own]) for name, own in groups.items()}
    return Reference("the exact gradient", means)


def bias_rows(
    accumulators: Mapping[tuple[str, str], MomentAccumulator], reference: Reference
) -> Iterator[dict[str, Any]]:
    """Yield rows of ``bias2``, ``bias_bound`` and ``cosine`` of each group that both sides have."""
    for (space, group), accumulator in accumulators.items():
        if (space, group) not in reference.means:
            continue
        other = reference.accumulators[space, group] if reference.accumulators else None
        for statistic, interval in compare(accumulator, reference.means[space, group], other).items():
            yield table_row(space, group, statistic, interval, accumulator.count)


def compare(accumulator: MomentAccumulator, mean: Tensor, other: MomentAccumulator | None) -> dict[str, Interval]:
    """Return the bias, its bound and the cosine of one group; ``other`` is the reference if that has noise itself."""
    bias2 = distance(accumulator, mean, other).interval
    intervals = {"bias2": bias2}
    length2 = other.squared_length.value if other else float(mean.double().square().sum())
    if length2 > 0 and not math.isnan(bias2.high):
        bound = math.sqrt(max(0.0, bias2.high) / length2)
        intervals["bias_bound"] = Interval(bound, 0.0, bound, bias2.n)
        intervals["cosine"] = Interval(_cosine(accumulator, mean.double(), length2), math.nan, math.nan, 0)
    return intervals


def _cosine(accumulator: MomentAccumulator, mean: Tensor, length2: float) -> float:
    """Return the cosine of the angle; NaN if the noise hides the length of the mean."""
    own = accumulator.squared_length.value
    return float(accumulator.mean @ mean) / math.sqrt(own * length2) if own > 0 else math.nan
