r"""The expectation of an estimator over its own noise, without sampling: the mean and the variance of its gradient.

An estimator whose only noise is what it draws from q is a function of those draws alone. All that S draws can be are
laid along a replicate dimension in place of the draws, and each replicate is weighted by its probability:

    E[g] = sum_{z_1..z_S} r_1(z_1) ... r_S(z_S) g(z_1, ..., z_S)

with r_s the law of draw s, as a rule q.

For finite latents these are all tuples of values, for normal ones the nodes of Gauss-Hermite quadrature. Estimators
that draw other noise (uniforms, Gumbels) cannot be seen through like this, and are left to the z-test.
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

from estbench.certify.sampling import Gradients, gradients
from estbench.certify.settings.base import NODES, Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, deviation, not_applicable, verdict
from estbench.estimators import Estimator
from estbench.latents import states
from estbench.randomness import seeded

# Tuples that are laid out at once: finite values, or nodes of a grid.
TUPLES = 10_000
GRID = 120_000
# Of the gradient's norm: a sum over values is exact, a quadrature as good as its nodes (a log of a sum has poles).
ROUNDING = 1e-10
QUADRATURE = 1e-6
TOTAL = 1e-9  # of the probabilities of all tuples
Sampler = Callable[..., Tensor]


class _OtherDrawsError(Exception):
    """The estimator draws otherwise than it did before: in number, or for another batch."""


class Expectation(NamedTuple):
    """Mean and variance of every coordinate, (B, ...) by group, from so many tuples."""

    mean: Gradients
    variance: Gradients
    tuples: int


def exact_mean(subject: Subject, setting: Setting) -> Verdict:
    """The expectation over the estimator's own noise is the exact gradient."""
    found = expectation(subject.prepared(setting), setting)
    if found is None:
        return not_applicable("its noise cannot be enumerated here: the z-test decides")
    return compare(found.mean, setting, f"{found.tuples:,} tuples of draws")


def compare(mean: Gradients, setting: Setting, how: str, size: float = 1.0) -> Verdict:
    """Whether a mean gradient is the exact one in every coordinate; rounding grows with the ``size`` of f."""
    exact = setting.exact()
    errors = {group: (mean[group] - exact[group]).abs() / setting.scale(group) for group in exact}
    group = max(errors, key=lambda name: float(errors[name].nan_to_num(torch.inf).max()))
    error, worst = float(errors[group].max()), int(errors[group].argmax())
    bound = max(size, 1.0) * (QUADRATURE if setting.latents.name == "normal" else ROUNDING)
    return verdict(
        error <= bound,
        f"relative error {error:.1e}, bound {bound:.0e}, {how}",
        deviation(group, mean[group], exact[group], worst, f"relative error {error:.1e}"),
        error / bound,
        error=error,
        bound=bound,
    )


def expectation(estimator: Estimator, setting: Setting) -> Expectation | None:
    """The moments of the gradient over all that the estimator may draw; nothing where that cannot be enumerated."""
    sizes = _draws(estimator, setting)
    laid = None if sizes is None else _tuples(setting, sum(sizes))
    if laid is None:
        return None
    values, probability = laid  # (S, N, 1 or B, ...) and (N, 1 or B)
    position = 0
    shape = (len(probability), setting.examples)

    def replay(q: Distribution) -> Sampler:
        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            nonlocal position, probability
            chosen = values[position : position + sample_shape[0]]
            position += sample_shape[0]
            if q.batch_shape != shape or len(chosen) != sample_shape[0]:
                raise _OtherDrawsError
            if setting.latents.name == "normal":
                return q.mean + q.stddev * chosen
            z = chosen.expand(len(chosen), *shape, *q.event_shape)
            # By the law that is drawn from, which need not be that of the objective's q.
            probability = probability * q.log_prob(z).detach().sum(0).exp()
            return z

        return sample

    try:
        found = gradients(estimator, _with_sampler(setting, replay), len(probability))
    except _OtherDrawsError:
        return None
    total = probability.sum(0)
    all_drawn = position == sum(sizes or [])
    if not all_drawn or not torch.allclose(total, torch.ones_like(total), rtol=0, atol=TOTAL):
        return None
    mean, variance = {}, {}
    for group, gradient in found.items():
        weight = probability.view(*probability.shape, *[1] * (gradient.dim() - 2))
        mean[group] = (weight * gradient).sum(0)
        variance[group] = (weight * (gradient - mean[group]).square()).sum(0)
    return Expectation(mean, variance, len(probability))


def _draws(estimator: Estimator, setting: Setting) -> list[int] | None:
    """How many samples the estimator draws from q, call by call; nothing if it draws any other noise."""
    sizes: list[tuple[int, ...]] = []

    def spy(q: Distribution) -> Sampler:
        original = q.rsample if q.has_rsample else q.sample

        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            sizes.append(tuple(sample_shape))
            state = torch.get_rng_state()
            z = original(sample_shape)
            torch.set_rng_state(state)
            return z

        return sample

    with seeded(0, setting.weights.device):
        before = torch.get_rng_state()
        gradients(estimator, _with_sampler(setting, spy), 1)
        other_noise = not torch.equal(before, torch.get_rng_state())
    if other_noise or any(len(shape) != 1 for shape in sizes):
        return None
    return [shape[0] for shape in sizes]


def _with_sampler(setting: Setting, sampler: Callable[[Distribution], Sampler]) -> Setting:
    """The same setting, whose q draws by another function: ``sample`` without its gradient, ``rsample`` with it."""
    latents = copy.copy(setting.latents)

    def family(params: dict[str, Tensor]) -> Distribution:
        q = setting.latents.family(params)
        rsample = sampler(q)
        if q.has_rsample:
            q.rsample = rsample  # type: ignore[method-assign]
        q.sample = lambda sample_shape=(): rsample(sample_shape).detach()  # type: ignore[method-assign]
        return q

    latents.family = family  # type: ignore[method-assign,assignment]
    return dataclasses.replace(setting, latents=latents)


def _tuples(setting: Setting, samples: int) -> tuple[Tensor, Tensor] | None:
    """All that ``samples`` draws can be, (S, N, B or 1, ...), and the mass of the noise of each, (N, B or 1)."""
    q = setting.latents.family(setting.params)
    if samples == 0:
        return setting.weights, torch.ones(1, len(setting.weights), dtype=torch.float64)
    if setting.latents.name == "normal":
        return _grid(q, samples)
    values = states(q)
    if values is None or len(values) ** samples > TUPLES:
        return None
    index = torch.cartesian_prod(*[torch.arange(len(values))] * samples).view(-1, samples)
    # Each is as probable as the laws that are drawn from make it: that is known when they are.
    return values[index.T][:, :, None], torch.ones(len(index), 1, dtype=torch.float64)


def _grid(q: Distribution, samples: int) -> tuple[Tensor, Tensor] | None:
    """Standard noise for ``samples`` draws of D normals at the nodes of a grid, and its masses."""
    latents = q.event_shape[0]
    if NODES ** (samples * latents) > GRID:
        return None
    abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
    axes = samples * latents
    nodes = torch.cartesian_prod(*[torch.tensor(abscissae)] * axes).view(-1, samples, latents)
    mass = torch.cartesian_prod(*[torch.tensor(masses / masses.sum())] * axes).view(-1, axes).prod(1)
    return nodes.transpose(0, 1)[:, :, None], mass[:, None].expand(-1, q.batch_shape[0])
