"""The probe: how noisy an estimator's gradient is, at these weights and on this minibatch.

Weights and estimator are frozen and the minibatch is fixed, so nothing but the estimator's own noise varies. An
average of past squared gradients, taken while training goes on, would mix in the drift of the weights and the
change of minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.estimators import Estimator
from estbench.measure.moments import COLUMNS, Moments, between_examples, moments_of
from estbench.measure.randomness import seeded
from estbench.problems import Problem
from estbench.stats import Interval

# Replicates are kept when they fit here, and drawn a second time when they do not.
STORED_BYTES = 256 * 2**20
# Rows (replicates x examples x samples) of one call of f in parameter space.
ROWS = 8192


def probe(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int = 100, seed: int = 0) -> Moments:
    """Measure the moments of the gradient of the minibatch-mean surrogate.

    Parameters
    ----------
    problem, estimator
        As they are; both are left as they were found, and so is torch's random state.
    batch
        Observations, (B, X), as the model sees them (binarised).
    replicates
        R, the number of independent draws of the gradient, at least 3.
    seed
        Of the draws. The same seed gives the same draws to estimators that consume noise alike.

    Returns
    -------
    Moments in two spaces. ``params``: the gradient with respect to the variational parameters, a (B, D) tensor per
    name whose row b is 1/B times example b's own; it isolates the estimator from the network. ``weights``: the
    gradient with respect to the weights of each group. In nats squared per unit of the parameter squared.
    """
    if replicates < 3:
        raise EstbenchError(f"a probe takes at least 3 replicates for an interval, got {replicates}")
    if len(batch) == 0:
        raise EstbenchError("a probe takes at least one observation, got none")
    training = estimator.training
    estimator.eval()
    try:
        rows = [*_parameter_space(problem, estimator, batch, replicates, seed)]
        rows += _weight_space(problem, estimator, batch, replicates, seed)
    finally:
        estimator.train(training)
    return Moments(
        tuple(
            dict(zip(COLUMNS, (space, group, statistic, *interval[:3], replicates), strict=True))
            for space, group, statistic, interval in rows
        )
    )


Row = tuple[str, str, str, Interval]


def _parameter_space(
    problem: Problem, estimator: Estimator, batch: Tensor, replicates: int, seed: int
) -> Iterator[Row]:
    """All replicates in one forward and one backward call, or in a few where memory asks for it."""
    with torch.no_grad():
        params = problem.encode(batch)
        evaluations = estimator.count_evaluations(problem.objective(params, batch))
    chunk = max(1, ROWS // (len(batch) * evaluations))
    parts: dict[str, list[Tensor]] = {name: [] for name in params}
    with seeded(seed, problem.device):
        for start in range(0, replicates, chunk):
            count = min(chunk, replicates - start)
            expanded = {
                name: value.expand(count, *value.shape).clone().requires_grad_() for name, value in params.items()
            }
            surrogate = estimator(problem.objective(expanded, batch)).mean(-1).sum()
            for name, gradient in zip(expanded, _gradients(surrogate, list(expanded.values())), strict=True):
                parts[name].append(gradient)
    for name, chunks in parts.items():
        gradients = torch.cat(chunks)
        flat = gradients.flatten(1)
        for statistic, interval in moments_of(lambda flat=flat: flat.unbind(), replicates).items():  # type: ignore[misc]
            yield "params", name, statistic, interval
        if len(batch) >= 3:
            yield "params", name, "data_variance", between_examples(gradients * len(batch))


def _weight_space(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int, seed: int) -> Iterator[Row]:
    """One backward call per replicate: exact for any module."""
    groups = problem.groups()
    draw = _replicates(problem, estimator, batch, groups, replicates, seed)
    size = sum(weight.numel() * weight.element_size() for weights in groups.values() for weight in weights)
    if replicates * size <= STORED_BYTES:
        draw = list(draw()).__iter__
    for group in groups:
        moments = moments_of(lambda group=group: (gradients[group] for gradients in draw()), replicates)  # type: ignore[misc]
        for statistic, interval in moments.items():
            yield "weights", group, statistic, interval


def _replicates(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: dict[str, list[nn.Parameter]],
    replicates: int,
    seed: int,
) -> Callable[[], Iterator[dict[str, Tensor]]]:
    """A function that draws the groups' flat gradients, (P,) each, R times over; the same ones at each call."""
    weights = [weight for group in groups.values() for weight in group]

    def draw() -> Iterator[dict[str, Tensor]]:
        with seeded(seed, problem.device):
            for _ in range(replicates):
                gradients = iter(_gradients(estimator(problem(batch)).mean(), weights))
                yield {name: torch.cat([next(gradients).flatten() for _ in group]) for name, group in groups.items()}

    return draw


def _gradients(surrogate: Tensor, inputs: list[Tensor] | list[nn.Parameter]) -> list[Tensor]:
    """Gradients of a scalar, zero where it does not depend on an input."""
    if not surrogate.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    found = torch.autograd.grad(surrogate, inputs, allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(inputs, found, strict=True)
    ]
