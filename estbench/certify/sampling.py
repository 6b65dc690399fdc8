"""Independent draws of an estimator's gradient on a small problem, and the moments of every coordinate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from estbench.certify.problems.base import SmallProblem
from estbench.errors import EstbenchError
from estbench.estimators import Estimator
from estbench.measure.gradients.differentiation import gradients
from estbench.randomness import RandomState, random_state

# Replicates x examples x evaluations of one call: few enough to stay in the cache.
ROWS = 50_000
FIRST_REPLICATES = 64  # of the first call, which shows whether there is noise at all
Gradients = dict[str, Tensor]
Sampler = Callable[[Estimator, SmallProblem, int], Gradients]  # independent estimates, (count, B, ...) each


def sample_gradients(
    estimator: Estimator,
    problem: SmallProblem,
    *replicates: int,
    plain: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Gradients:
    """Return independent estimates of the gradient by group, (*R, B, ...) each, from torch's current random state.

    With ``plain`` the estimator gets them as one batch of R B examples, as in training.
    """
    leaves = problem.leaf_tensors(*replicates, plain=plain, dtype=dtype, device=device)
    drawn = differentiate(estimator(problem.objective(leaves)).sum(), leaves)
    if not plain:
        return drawn
    return {name: gradient.view(*replicates, problem.examples, *gradient.shape[1:]) for name, gradient in drawn.items()}


def sample_as_in_training(estimator: Estimator, problem: SmallProblem, count: int) -> Gradients:
    """Return ``count`` estimates from one plain batch in single precision, (count, B, ...) each in double."""
    drawn = sample_gradients(estimator, problem, count, plain=True, dtype=torch.float32)
    return {name: gradient.double() for name, gradient in drawn.items()}


def differentiate(total: Tensor, leaves: Mapping[str, Tensor]) -> Gradients:
    """Return the gradient of a scalar by leaf, zero for a leaf that it does not depend on."""
    return dict(zip(leaves, gradients(total, list(leaves.values())), strict=True))


def relative_difference(first: Gradients, second: Gradients, problem: SmallProblem) -> float:
    """Return the largest difference of a coordinate, relative to the norm of the exact gradient."""
    return max(float((first[group] - second[group]).abs().max()) / problem.gradient_norm(group) for group in first)


class RunningMoments:
    """Mean and variance (ddof = 1) of every coordinate of the gradient, updated chunk by chunk.

    A probe keeps other moments (``estbench.measure.gradients.moments``): the trace of the covariance, with its
    interval. A certificate tests each coordinate by itself.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Gradients = {}
        self._squares: Gradients = {}

    @property
    def variance(self) -> Gradients:
        """The variance by group, (B, ...) each."""
        return {group: squares / (self.count - 1) for group, squares in self._squares.items()}

    @property
    def error(self) -> Gradients:
        """The standard error of the mean by group, (B, ...) each."""
        return {group: (variance / self.count).sqrt() for group, variance in self.variance.items()}

    def add(self, drawn: Gradients) -> None:
        """Add R draws, (R, B, ...) by group, by the formula of Chan, Golub and LeVeque for the moments of a union.

        Raises ``EstbenchError`` if a draw is not finite.
        """
        size = len(next(iter(drawn.values())))
        share = size / (self.count + size)
        for group, gradient in drawn.items():
            center = gradient.mean(0)
            if not center.isfinite().all():
                raise EstbenchError(f"the gradient of {group} is not finite in some of {size} draws")
            squares = (gradient - center).square().sum(0)
            shift = center - self.mean.get(group, center)
            self._squares[group] = self._squares.get(group, 0.0) + squares + shift.square() * (self.count * share)
            self.mean[group] = self.mean.get(group, center) + shift * share
        self.count += size


def draw_until(
    count: int,
    moments: RunningMoments,
    estimator: Estimator,
    problem: SmallProblem,
    sampler: Sampler = sample_gradients,
) -> None:
    """Add draws to the moments, from torch's current random state, until there are ``count``.

    An estimator without noise and state always gives the same gradient, and is called only once.
    """
    evaluations = estimator.count_evaluations(problem.objective(problem.leaf_tensors()))
    chunk = max(1, ROWS // (problem.examples * evaluations))
    before = random_state(problem.weights.device)
    drawn = sampler(estimator, problem, min(chunk, FIRST_REPLICATES, count - moments.count))
    moments.add(drawn)
    varies = bool(estimator.state_dict()) or _differ(before, random_state(problem.weights.device))
    while moments.count < count:
        if varies:
            drawn = sampler(estimator, problem, min(chunk, count - moments.count))
        moments.add(drawn)


def variance_with_error(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance of draws, (n, ...) to (...), and its standard error.

    Var(s^2) = (mu4 - s^4 (n - 3) / (n - 1)) / n, with the fourth central moment mu4.
    """
    n, variance = len(drawn), drawn.var(0)
    fourth = (drawn - drawn.mean(0)).pow(4).mean(0)
    return variance, ((fourth - variance.square() * (n - 3) / (n - 1)) / n).clamp(min=0).sqrt()


def _differ(first: RandomState, second: RandomState) -> bool:
    pairs = zip(first, second, strict=True)
    return not all(one is None or other is None or torch.equal(one, other) for one, other in pairs)
