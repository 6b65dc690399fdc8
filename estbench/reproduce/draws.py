"""Independent gradient estimates at the variational parameters, kept one by one: what most cards start from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from estbench.estimators import Estimator
from estbench.measure import frozen
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval, t_quantile

# Rows (replicates x examples x evaluations) of one call.
ROWS = 200_000


def parameter_draws(
    problem: Problem,
    estimator: Estimator,
    x: Tensor,
    replicates: int,
    seed: int,
    params: Mapping[str, Tensor] | None = None,
    rows: int = ROWS,
) -> dict[str, Tensor]:
    """Estimates of every example's own gradient by the parameters' names, (R, B, D) each, at frozen state.

    ``params`` are the variational parameters, (B, D) each; without them those that x is encoded to.
    """
    with frozen(problem, estimator), seeded(seed, x.device):
        with torch.no_grad():
            params = problem.encode(x) if params is None else {name: value.detach() for name, value in params.items()}
            cost = estimator.count_evaluations(problem.objective(params, x))
        chunk = max(1, rows // (len(x) * cost))
        parts: dict[str, list[Tensor]] = {name: [] for name in params}
        for start in range(0, replicates, chunk):
            count = min(chunk, replicates - start)
            leaves = {
                name: value.expand(count, *value.shape).clone().requires_grad_() for name, value in params.items()
            }
            surrogate = estimator(problem.objective(leaves, x)).sum()
            found = torch.autograd.grad(surrogate, list(leaves.values()), materialize_grads=True)
            for name, gradient in zip(leaves, found, strict=True):
                parts[name].append(gradient)
    return {name: torch.cat(chunks) for name, chunks in parts.items()}


def exact_gradient(problem: Problem, x: Tensor) -> dict[str, Tensor]:
    """Every example's own exact gradient by the parameters' names, (B, D) each."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in problem.encode(x).items()}
    found = torch.autograd.grad(
        problem.objective(leaves, x).exact().sum(), list(leaves.values()), materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


@dataclass(frozen=True)
class SampleVariance:
    """The variance of R draws of a number, with the standard error that their fourth moment gives it."""

    value: float
    error: float
    n: int

    @classmethod
    def of(cls, draws: Tensor) -> SampleVariance:
        """From draws of shape (R,)."""
        deviations = draws.double() - draws.double().mean()
        value = float(deviations.square().sum() / (len(draws) - 1))
        fourth = float(deviations.pow(4).mean())
        return cls(value, math.sqrt(max(0.0, fourth - value**2) / len(draws)), len(draws))

    @property
    def interval(self) -> Interval:
        """Normal, by the standard error."""
        half = normal_quantile() * self.error
        return Interval(self.value, max(0.0, self.value - half), self.value + half, self.n)

    def z(self, expected: float) -> float:
        """Distance from a value in standard errors; rounding where nothing varies."""
        return (self.value - expected) / max(self.error, 1e-12 * max(1.0, abs(expected)))

    def ratio(self, other: SampleVariance) -> Interval:
        """Ratio to another that was drawn independently, by the delta method on the log scale."""
        if not self.value or not other.value:
            return Interval(math.nan, math.nan, math.nan, min(self.n, other.n))
        half = normal_quantile() * math.hypot(self.error / self.value, other.error / other.value)
        value = self.value / other.value
        return Interval(value, value * math.exp(-half), value * math.exp(half), min(self.n, other.n))


def normal_quantile() -> float:
    """The factor of a standard error for many draws."""
    return t_quantile(10**9)


def exactly(value: float, n: int) -> Interval:
    """A number that is known without error: a largest |z|, a count."""
    return Interval(value, value, value, n)
