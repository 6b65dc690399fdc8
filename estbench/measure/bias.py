r"""Bias of a gradient estimate: against the exact gradient, or against a reference estimator with many draws.

    bias2  = |gbar - g*|^2 - variance / R                                   against the exact gradient g*
    bias2  = |gbar - hbar|^2 - variance / R - variance_h / R_h              against a reference h

Both are unbiased for |E g - g*|^2: without the last terms, an unbiased estimator would be shown a bias of its own
noise. The jackknife runs over batches of both sides. ``bias_bound`` is the equivalence bound: with 95 % confidence the
bias is below this share of the reference's length (it is the upper end of the two-sided interval, with some to spare).
``cosine`` is that of the angle between the two means, each length being the unbiased one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.measure.fast_path import gradients
from estbench.measure.groups import groups_of
from estbench.measure.moments import Batches, Tally, grouped_jackknife, row
from estbench.problems import Problem
from estbench.stats import Interval


@dataclass(frozen=True)
class Reference:
    """What an estimate is compared with, by space and group: exact gradients, (P,), or another's tallies."""

    name: str
    means: Mapping[tuple[str, str], Tensor]
    tallies: Mapping[tuple[str, str], Tally] | None = None


def exact_reference(problem: Problem, batch: Tensor, *, layers: bool = False) -> Reference:
    """The exact gradient of the minibatch-mean objective; ``EstbenchError`` where the problem has none.

    Examples are taken one by one: an enumeration is large.
    """
    groups = groups_of(problem, layers=layers)
    weights = [weight for group in groups.values() for weight in group]
    total = [torch.zeros_like(weight) for weight in weights]
    rows: dict[str, list[Tensor]] = {}
    for x in torch.split(batch, 1):
        params = problem.encode(x)
        value = problem.objective(params, x).exact().sum() / len(batch)
        found = gradients(value, [*params.values(), *weights])
        for name, gradient in zip(params, found, strict=False):
            rows.setdefault(name, []).append(gradient.flatten())
        total = [a + b for a, b in zip(total, found[len(params) :], strict=True)]
    parts = iter(total)
    means = {("params", name): torch.cat(found) for name, found in rows.items()}
    means |= {("weights", name): torch.cat([next(parts).flatten() for _ in own]) for name, own in groups.items()}
    return Reference("the exact gradient", means)


def has_exact(problem: Problem, batch: Tensor) -> bool:
    """Whether the problem's objective has an exact value here."""
    try:
        with torch.no_grad():
            problem(batch[:1]).exact()
    except EstbenchError:
        return False
    return True


def bias_rows(tallies: Mapping[tuple[str, str], Tally], reference: Reference) -> Iterator[dict[str, Any]]:
    """Rows of ``bias2``, ``bias_bound`` and ``cosine`` of each group that both sides have."""
    for (space, group), tally in tallies.items():
        if (space, group) not in reference.means:
            continue
        other = reference.tallies[space, group] if reference.tallies else None
        for statistic, interval in compare(tally, reference.means[space, group], other).items():
            yield row(space, group, statistic, interval, tally.count)


def compare(tally: Tally, mean: Tensor, other: Tally | None) -> dict[str, Interval]:
    """Bias, its bound and the cosine, of one group; ``other`` is the reference where it has noise of its own."""
    bias, left = tally.batches(mean).norm2()
    sides = [left]
    length2 = float(mean.double().square().sum())
    if other is not None:
        value, without = other.batches(tally.mean).norm2()
        # Each side's jackknife has the other's full mean: of the squared distance, both noise terms go.
        distance2 = float((tally.mean - other.mean).square().sum())
        own, theirs = distance2 - bias, distance2 - value
        bias = distance2 - own - theirs
        sides = [left - theirs, without - own]
        length2 = other.batches().norm2()[0]
    bias2 = _both(bias, sides)
    found = {"bias2": bias2}
    if length2 > 0 and not math.isnan(bias2.high):
        bound = math.sqrt(max(0.0, bias2.high) / length2)
        found["bias_bound"] = Interval(bound, 0.0, bound, bias2.n)
        found["cosine"] = _cosine(tally, mean, other, length2)
    return found


def _both(value: float, sides: list[np.ndarray[Any, Any]]) -> Interval:
    """One interval from independent jackknives, whose squared errors add."""
    parts = [grouped_jackknife(value, side) for side in sides]
    half = math.sqrt(sum((part.high - value) ** 2 for part in parts))
    return Interval(value, value - half, value + half, min(part.n for part in parts))


def _cosine(tally: Tally, mean: Tensor, other: Tally | None, length2: float) -> Interval:
    """The angle's cosine, jackknife over batches."""

    def of(own: Tally, fixed: Tensor, fixed2: float) -> tuple[float, np.ndarray[Any, Any]]:
        batches: Batches = own.batches()
        norm2, left_norm2 = batches.norm2()
        dots = (own.sums[: len(left_norm2)].double() @ fixed.double()).cpu().numpy()
        count, left = batches.sizes.sum(), batches.sizes.sum() - batches.sizes
        if norm2 <= 0 or np.any(left_norm2 <= 0):
            return math.nan, np.full(len(dots), math.nan)
        value = dots.sum() / count / math.sqrt(norm2 * fixed2)
        without = (dots.sum() - dots) / np.maximum(left, 1) / np.sqrt(left_norm2 * fixed2)
        return float(value), without

    value, left = of(tally, mean, length2)
    sides = [left]
    if other is not None:
        sides.append(of(other, tally.mean, max(tally.batches().norm2()[0], 1e-300))[1])
    return _both(value, sides)
