"""The probe: how noisy an estimator's gradient is, at these weights and on this minibatch.

Weights and estimator are frozen and the minibatch is fixed, so only the estimator's own noise varies. An average of
past squared gradients during training would also contain the drift of the weights and the change of minibatch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from estbench.devices import in_double, in_pieces
from estbench.errors import EstbenchError
from estbench.estimators import Estimator, check_for, surrogate_of
from estbench.failures import described
from estbench.measure.frozen import frozen
from estbench.measure.gradients import loop
from estbench.measure.gradients._linear import NotPerExampleError
from estbench.measure.gradients.bias import Reference, bias_rows
from estbench.measure.gradients.differentiation import differentiation_for
from estbench.measure.gradients.groups import groups_of
from estbench.measure.gradients.heavy_tails import effective_number
from estbench.measure.gradients.moments import (
    FEWEST_VALUES,
    MomentAccumulator,
    Moments,
    chunk_sizes,
    table_row,
    table_rows,
)
from estbench.measure.gradients.per_example import FastPath, verify_against_autograd
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval

# Rows (replicates x examples x samples) of one call of f: one that fits a CPU's cache is twice as fast.
# It decides the order of random draws, so it is part of the protocol and the same on every device.
ROWS = 1024
# If a group's noise counts as fewer replicates than this, the probe warns of heavy tails.
FEWEST_EFFECTIVE = 10
FEWEST = 3
SMALLEST_CHUNK = 2
Accumulators = dict[tuple[str, str], MomentAccumulator]
ProbePath = Literal["auto", "fast", "loop"]


def probe(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    replicates: int = 100,
    seed: int = 0,
    *,
    layers: bool = False,
    reference: Reference | None = None,
    path: ProbePath = "auto",
) -> Moments:
    """Measure the moments of the gradient of the minibatch-mean surrogate.

    Parameters
    ----------
    problem, estimator
        Both are measured in eval mode and left as they were found, and so is torch's random state.
    batch
        Observations, (B, X), as the model sees them (binarised).
    replicates
        R, the number of independent draws of the gradient, at least 3.
    seed
        Of the draws. The same seed gives the same draws to estimators that consume noise alike.
    layers
        Split the groups by layer: ``encoder.0``, ``encoder.1``, ...
    reference
        The gradient to compare the mean with: see ``exact_reference`` and ``estimated_reference``.
    path
        ``fast`` takes all replicates in one backward call, and raises ``EstbenchError`` if that is not right for the
        model; ``loop`` takes one backward call per replicate, which is always right; ``auto`` is fast if it can be.

    Returns
    -------
    Moments in two spaces. ``params``: the gradient with respect to the variational parameters, a (B, D) tensor per
    name whose row b is 1/B times example b's own; it isolates the estimator from the network. ``weights``: the
    gradient with respect to the weights of each group. In nats squared per unit of the parameter squared.

    Raises
    ------
    EstbenchError
        For too few replicates, no observations, or an estimator that is not for the problem.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, measure, problems
    >>> problem = problems.create("gaussian_toy")
    >>> batch = torch.zeros(8, 1)  # 8 independent copies of the toy
    >>> moments = measure.probe(problem, estimators.create("antithetic"), batch, replicates=20, seed=0)
    >>> sorted(set(moments.table["statistic"]))
    ['data_variance', 'mean_norm2', 'snr', 'variance']
    >>> round(moments.value("weights", "encoder", "mean_norm2"))  # the gradient is (-1, -2)
    5
    """
    if replicates < FEWEST:
        raise EstbenchError(f"a probe takes at least {FEWEST} replicates for an interval, got {replicates}")
    if len(batch) == 0:
        raise EstbenchError("a probe takes at least one observation, got none")
    check_for(estimator, problem, batch)
    problem, estimator, batch = in_double(problem.device, problem, estimator, batch)
    collected = collect(problem, estimator, batch, replicates, seed, layers=layers, path=path)
    accumulators = collected.accumulators
    rows = [
        *table_rows(
            "params",
            ((group, accumulator) for (space, group), accumulator in accumulators.items() if space == "params"),
        ),
        *_weight_rows(accumulators, collected.data_variance),
        *(bias_rows(accumulators, reference) if reference else ()),
    ]
    return Moments(
        tuple(rows),
        collected.path,
        collected.reason,
        collected.absent,
        tuple(_warnings(accumulators)),
        problem.device.type,
    )


@dataclass(frozen=True)
class Collected:
    """The accumulated gradients of a probe; ``data_variance`` by group if the accumulators lack it."""

    accumulators: Accumulators
    path: Literal["fast", "loop"]
    reason: str = ""  # why the path was not fast
    data_variance: dict[str, Interval] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def collect(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    replicates: int,
    seed: int,
    *,
    layers: bool = False,
    path: ProbePath = "auto",
) -> Collected:
    """Draw the replicates with frozen models, the fast way or in a loop."""
    with frozen(problem, estimator), seeded(seed, problem.device):
        groups = groups_of(problem, layers=layers)
        largest = largest_chunk(problem, estimator, batch, replicates)
        reason = "asked for"
        if path != "loop":
            try:
                fast = FastPath(problem, estimator, batch, groups)
                largest_fast = min(largest, verify_against_autograd(fast, seed))
                accumulators, _ = in_pieces(
                    lambda most: accumulate_fast(fast, chunk_sizes(replicates, most), seed),
                    largest_fast,
                    SMALLEST_CHUNK,
                    batch.device,
                )
                return Collected(accumulators, "fast")
            except NotPerExampleError as complaint:
                reason = str(complaint)
            except Exception as error:  # noqa: BLE001  (modules may be a user's code; the loop requires less of them)
                reason = f"it raises {described(error)}"
        if path == "fast":
            raise EstbenchError(
                f"the fast path of the probe cannot be used: {reason}; set probe.path to 'auto' or 'loop'"
            )
        collected, _ = in_pieces(
            lambda most: _looped(problem, estimator, batch, groups, chunk_sizes(replicates, most), seed, reason),
            largest,
            SMALLEST_CHUNK,
            batch.device,
        )
        return collected


def _looped(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: dict[str, list[nn.Parameter]],
    chunks: list[int],
    seed: int,
    reason: str,
) -> Collected:
    weights = [weight for group in groups.values() for weight in group]
    with seeded(seed, problem.device):
        differentiate = differentiation_for(lambda: surrogate_of(estimator, problem(batch)).mean(), weights)
    mixed = loop.why_examples_mix(problem, batch)
    accumulators: Accumulators = {}
    loop.accumulate_params(
        problem, estimator, batch, chunks, seed, accumulators, independent=not mixed, differentiate=differentiate
    )
    loop.accumulate_weights(problem, estimator, batch, groups, sum(chunks), seed, accumulators, differentiate)
    if mixed:
        return Collected(accumulators, "loop", reason, absent=(f"data_variance: {mixed}",))
    if len(batch) < FEWEST:
        return Collected(accumulators, "loop", reason)
    singly = chunk_sizes(sum(chunks), largest_chunk(problem, estimator, batch[:1], sum(chunks)))
    extra = loop.data_variances(problem, estimator, batch, groups, singly, seed, accumulators, differentiate)
    return Collected(accumulators, "loop", reason, extra)


def accumulate_fast(fast: FastPath, chunks: list[int], seed: int) -> Accumulators:
    """Draw chunks of replicates, and accumulate their sums."""
    accumulators = fast.new_accumulators()
    with seeded(seed, fast.problem.device):
        for count in chunks:
            fast.accumulate(fast.draw_chunk(count), accumulators)
    return accumulators


def estimated_reference(
    problem: Problem, estimator: Estimator, batch: Tensor, replicates: int, seed: int = 0, *, layers: bool = False
) -> Reference:
    """Estimate the mean gradient by a reference estimator, to compare a probe with; take another seed than the probe's.

    The parameters are those of ``probe``; the estimator must be unbiased, and is best given many replicates.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, measure, problems
    >>> problem, batch = problems.create("gaussian_toy"), torch.zeros(8, 1)
    >>> reference = measure.estimated_reference(problem, estimators.create("reparam"), batch, replicates=50, seed=1)
    >>> moments = measure.probe(problem, estimators.create("rloo"), batch, replicates=20, reference=reference)
    >>> "bias2" in set(moments.table["statistic"])
    True
    """
    problem, estimator, batch = in_double(problem.device, problem, estimator, batch)
    accumulators = collect(problem, estimator, batch, replicates, seed, layers=layers).accumulators
    return Reference(
        estimator.name, {place: accumulator.mean for place, accumulator in accumulators.items()}, accumulators
    )


def largest_chunk(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> int:
    """Return the replicates of one call, from the minibatch and the estimator's cost: the same on every device."""
    with torch.no_grad():
        evaluations = estimator.count_evaluations(problem.objective(problem.encode(batch), batch))
    return max(2, min(replicates, ROWS // (len(batch) * max(evaluations, 1))))


def _weight_rows(accumulators: Accumulators, extra: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for (space, group), accumulator in accumulators.items():
        if space == "weights":
            rows += table_rows(space, [(group, accumulator)])
            if group in extra:
                rows.append(table_row(space, group, "data_variance", extra[group], accumulator.count))
    return rows


def _warnings(accumulators: Accumulators) -> list[str]:
    """Warn of groups whose variance has no interval, or is decided by a few draws."""
    warnings = []
    for (space, group), accumulator in accumulators.items():
        values, count = accumulator.deviations, accumulator.count
        effective = 2 * effective_number(values)
        if not accumulator.has_enough_values and values.any():
            fewest = 2 * -(-FEWEST_VALUES // accumulator.examples)
            warnings.append(
                f"{group} ({space}): {count} replicates of {accumulator.examples} examples are too few for intervals;"
                f" take {fewest} or more"
            )
        elif effective < FEWEST_EFFECTIVE and count >= 2 * FEWEST_EFFECTIVE:
            warnings.append(
                f"{group} ({space}): heavy tails; {count} replicates count as {effective:.1f}, so a few draws"
                " decide the estimates, and their intervals may miss the truth; take more replicates"
            )
    return warnings
