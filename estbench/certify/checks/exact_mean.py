r"""The exact mean of an estimator: the mean and the variance of its gradient over its own noise, without sampling.

An estimator that only draws from q is a function of these draws. All possible values of its S draws are placed along a
replicate dimension, and each replicate is weighted by its probability:

    E[g] = sum_{z_1..z_S} r_1(z_1) ... r_S(z_S) g(z_1, ..., z_S)

with r_s the distribution of draw s, usually q.

For finite latents these are all tuples of values, for normal latents the nodes of Gauss-Hermite quadrature. Estimators
that draw other noise (uniforms, Gumbels) cannot be enumerated in this way; for them the z-test decides.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.certify.check_result import CheckResult, decide, describe_deviation, not_applicable
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import NODES, QUADRATURE, SmallProblem, at_noise
from estbench.certify.sampling import Gradients, sample_gradients
from estbench.estimators import Estimator
from estbench.latents import states
from estbench.randomness import seeded

MAX_TUPLES = 10_000  # of finite values
MAX_NODES = 120_000  # of a grid
# Allowed errors, relative to the gradient's norm: a sum over values is exact, a quadrature as good as its nodes (the
# logarithm of a sum has poles).
ROUNDING = 1e-10
BY_NODES = 1e-6
TOTAL_TOLERANCE = 1e-9  # of the sum of all probabilities
Sampler = Callable[..., Tensor]


class _OtherDrawsError(Exception):
    """The estimator draws another number of samples than before, or for another batch."""


class ExactMoments(NamedTuple):
    """Mean and variance of every coordinate, (B, ...) by group, and the number of tuples of draws behind them."""

    mean: Gradients
    variance: Gradients
    tuples: int


def check_exact_mean(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that the expectation over the estimator's own noise is the exact gradient."""
    moments = enumerate_moments(tested.prepared(problem), problem)
    if moments is None:
        return not_applicable("its noise cannot be enumerated here: the z-test decides")
    return compare_mean(moments.mean, problem, f"{moments.tuples:,} tuples of draws")


def compare_mean(mean: Gradients, problem: SmallProblem, evidence: str, size: float = 1.0) -> CheckResult:
    """Compare a mean gradient with the exact one in every coordinate; rounding grows with the ``size`` of f."""
    exact = problem.exact_gradient()
    errors = {group: (mean[group] - exact[group]).abs() / problem.gradient_norm(group) for group in exact}
    group = max(errors, key=lambda name: float(errors[name].nan_to_num(torch.inf).max()))
    error, worst = float(errors[group].max()), int(errors[group].argmax())
    bound = max(size, 1.0) * (BY_NODES if problem.latents.name in QUADRATURE else ROUNDING)
    return decide(
        error <= bound,
        f"relative error {error:.1e}, bound {bound:.0e}, {evidence}",
        describe_deviation(group, mean[group], exact[group], worst, f"relative error {error:.1e}"),
        error / bound,
        error=error,
        bound=bound,
    )


def enumerate_moments(estimator: Estimator, problem: SmallProblem) -> ExactMoments | None:
    """Return the moments of the gradient over all values that the estimator may draw.

    None if its noise cannot be enumerated: it draws other noise, or there are too many tuples of values.
    """
    sizes = _record_draws(estimator, problem)
    tuples = None if sizes is None else _list_tuples(problem, sum(sizes))
    if tuples is None:
        return None
    values, probability = tuples  # (S, N, 1 or B, ...) and (N, 1 or B)
    position = 0
    shape = (len(probability), problem.examples)

    def replay(q: Distribution) -> Sampler:
        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            nonlocal position, probability
            chosen = values[position : position + sample_shape[0]]
            position += sample_shape[0]
            if q.batch_shape != shape or len(chosen) != sample_shape[0]:
                raise _OtherDrawsError
            if problem.latents.name in QUADRATURE:
                return at_noise(q, chosen)
            z = chosen.expand(len(chosen), *shape, *q.event_shape)
            # The distribution that is drawn from need not be the objective's q.
            probability = probability * q.log_prob(z).detach().sum(0).exp()
            return z

        return sample

    try:
        drawn = sample_gradients(estimator, _replace_sampler(problem, replay), len(probability))
    except _OtherDrawsError:
        return None
    total = probability.sum(0)
    all_drawn = position == sum(sizes or [])
    if not all_drawn or not torch.allclose(total, torch.ones_like(total), rtol=0, atol=TOTAL_TOLERANCE):
        return None
    mean, variance = {}, {}
    for group, gradient in drawn.items():
        weight = probability.view(*probability.shape, *[1] * (gradient.dim() - 2))
        mean[group] = (weight * gradient).sum(0)
        variance[group] = (weight * (gradient - mean[group]).square()).sum(0)
    return ExactMoments(mean, variance, len(probability))


def _record_draws(estimator: Estimator, problem: SmallProblem) -> list[int] | None:
    """Return how many samples the estimator draws from q in each of its calls; None if it draws any other noise."""
    sizes: list[tuple[int, ...]] = []

    def record(q: Distribution) -> Sampler:
        original = q.rsample if q.has_rsample else q.sample

        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            sizes.append(tuple(sample_shape))
            state = torch.get_rng_state()
            z = original(sample_shape)
            torch.set_rng_state(state)
            return z

        return sample

    with seeded(0, problem.weights.device):
        before = torch.get_rng_state()
        sample_gradients(estimator, _replace_sampler(problem, record), 1)
        other_noise = not torch.equal(before, torch.get_rng_state())
    if other_noise or any(len(shape) != 1 for shape in sizes):
        return None
    return [shape[0] for shape in sizes]


def _replace_sampler(problem: SmallProblem, sampler: Callable[[Distribution], Sampler]) -> SmallProblem:
    """Return the problem with a q that draws by another function: ``rsample`` with its gradient, ``sample`` without."""
    latents = copy.copy(problem.latents)

    def family(params: dict[str, Tensor]) -> Distribution:
        q = problem.latents.family(params)
        rsample = sampler(q)
        if q.has_rsample:
            q.rsample = rsample  # type: ignore[method-assign]
        q.sample = lambda sample_shape=(): rsample(sample_shape).detach()  # type: ignore[method-assign]
        return q

    latents.family = family  # type: ignore[method-assign,assignment]
    return dataclasses.replace(problem, latents=latents)


def _list_tuples(problem: SmallProblem, samples: int) -> tuple[Tensor, Tensor] | None:
    """Return all values of ``samples`` draws, (S, N, B or 1, ...), and the mass of the noise of each, (N, B or 1)."""
    q = problem.latents.family(problem.params)
    if samples == 0:
        return problem.weights, torch.ones(1, len(problem.weights), dtype=torch.float64)
    if problem.latents.name in QUADRATURE:
        return _make_grid(q, samples)
    values = states(q)
    if values is None or len(values) ** samples > MAX_TUPLES:
        return None
    index = torch.cartesian_prod(*[torch.arange(len(values))] * samples).view(-1, samples)
    # The probabilities come from the distributions that are drawn from, which are known only when they are drawn from.
    return values[index.T][:, :, None], torch.ones(len(index), 1, dtype=torch.float64)


def _make_grid(q: Distribution, samples: int) -> tuple[Tensor, Tensor] | None:
    """Return standard noise for ``samples`` draws of D normals at the nodes of a grid, and its masses."""
    latents = q.event_shape[0]
    if NODES ** (samples * latents) > MAX_NODES:
        return None
    abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
    axes = samples * latents
    nodes = torch.cartesian_prod(*[torch.tensor(abscissae)] * axes).view(-1, samples, latents)
    mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * axes).view(-1, axes).prod(1)
    return nodes.transpose(0, 1)[:, :, None], mass[:, None].expand(-1, q.batch_shape[0])
