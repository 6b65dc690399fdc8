"""The probe: how noisy an estimator's gradient is, at these weights and on this minibatch.

Weights and estimator are frozen and the minibatch is fixed, so nothing but the estimator's own noise varies. An
average of past squared gradients, taken while training goes on, would mix in the drift of the weights and the
change of minibatch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

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
from estbench.measure.gradients.moments import FEWEST_VALUES, Moments, Tally, chunk_sizes, row, rows_of
from estbench.measure.gradients.per_example import FastPath, rehearse
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.stats import Interval

# Rows (replicates x examples x samples) of one call of f: what fits a CPU's cache is twice as fast as what does not.
# It decides the order of random draws, so it is part of the protocol and the same on every device.
ROWS = 1024
# Replicates that a group's noise counts as, below which the probe warns of heavy tails.
FEWEST_EFFECTIVE = 10
FEWEST = 3
Tallies = dict[tuple[str, str], Tally]
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
        What the mean gradient is compared with: see ``exact_reference`` and ``estimated_reference``.
    path
        ``fast`` takes all replicates in one backward call, and raises ``EstbenchError`` where that is not right;
        ``loop`` takes one backward call per replicate, which always is; ``auto`` is fast where it can be.

    Returns
    -------
    Moments in two spaces. ``params``: the gradient with respect to the variational parameters, a (B, D) tensor per
    name whose row b is 1/B times example b's own; it isolates the estimator from the network. ``weights``: the
    gradient with respect to the weights of each group. In nats squared per unit of the parameter squared.
    """
    if replicates < FEWEST:
        raise EstbenchError(f"a probe takes at least {FEWEST} replicates for an interval, got {replicates}")
    if len(batch) == 0:
        raise EstbenchError("a probe takes at least one observation, got none")
    check_for(estimator, problem, batch)
    found = measured(problem, estimator, batch, replicates, seed, layers=layers, path=path)
    tallies = found.tallies
    rows = [
        *rows_of("params", ((group, tally) for (space, group), tally in tallies.items() if space == "params")),
        *_weight_rows(tallies, found.data_variance),
        *(bias_rows(tallies, reference) if reference else ()),
    ]
    return Moments(tuple(rows), found.path, found.reason, found.absent, tuple(_warnings(tallies)))


@dataclass(frozen=True)
class Measured:
    """What a probe is made from; ``data_variance`` by group where the tallies lack it."""

    tallies: Tallies
    path: Literal["fast", "loop"]
    reason: str = ""  # why the path was not fast
    data_variance: dict[str, Interval] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def measured(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    replicates: int,
    seed: int,
    *,
    layers: bool = False,
    path: ProbePath = "auto",
) -> Measured:
    """Draw the replicates with models that stand still, the fast way or in a loop."""
    with frozen(problem, estimator), seeded(seed, problem.device):
        groups = groups_of(problem, layers=layers)
        largest = largest_chunk(problem, estimator, batch, replicates)
        reason = "asked for"
        if path != "loop":
            try:
                fast = FastPath(problem, estimator, batch, groups)
                chunks = chunk_sizes(replicates, min(largest, rehearse(fast, seed)))
                return Measured(fast_tallies(fast, chunks, seed), "fast")
            except NotPerExampleError as complaint:
                reason = str(complaint)
            except Exception as error:  # noqa: BLE001  (modules are anybody's code; the loop asks less of them)
                reason = f"it raises {described(error)}"
        if path == "fast":
            raise EstbenchError(
                f"the fast path of the probe cannot be used: {reason}; set probe.path to 'auto' or 'loop'"
            )
        return _looped(problem, estimator, batch, groups, chunk_sizes(replicates, largest), seed, reason)


def _looped(
    problem: Problem,
    estimator: Estimator,
    batch: Tensor,
    groups: dict[str, list[nn.Parameter]],
    chunks: list[int],
    seed: int,
    reason: str,
) -> Measured:
    weights = [weight for group in groups.values() for weight in group]
    with seeded(seed, problem.device):
        differentiate = differentiation_for(lambda: surrogate_of(estimator, problem(batch)).mean(), weights)
    mixed = loop.why_not_apart(problem, batch)
    tallies: Tallies = {}
    loop.tally_params(problem, estimator, batch, chunks, seed, tallies, apart=not mixed, differentiate=differentiate)
    loop.tally_weights(problem, estimator, batch, groups, sum(chunks), seed, tallies, differentiate)
    if mixed:
        return Measured(tallies, "loop", reason, absent=(f"data_variance: {mixed}",))
    if len(batch) < FEWEST:
        return Measured(tallies, "loop", reason)
    singly = chunk_sizes(sum(chunks), largest_chunk(problem, estimator, batch[:1], sum(chunks)))
    extra = loop.between_examples(problem, estimator, batch, groups, singly, seed, tallies, differentiate)
    return Measured(tallies, "loop", reason, extra)


def fast_tallies(fast: FastPath, chunks: list[int], seed: int) -> Tallies:
    """Draw chunks of replicates, and keep their sums."""
    tallies = fast.tallies()
    with seeded(seed, fast.problem.device):
        for count in chunks:
            fast.tally(fast.draw(count), tallies)
    return tallies


def estimated_reference(
    problem: Problem, estimator: Estimator, batch: Tensor, replicates: int, seed: int = 0, *, layers: bool = False
) -> Reference:
    """The mean gradient of a reference estimator, from draws of its own: give it another seed than the probe's."""
    tallies = measured(problem, estimator, batch, replicates, seed, layers=layers).tallies
    return Reference(estimator.name, {place: tally.mean for place, tally in tallies.items()}, tallies)


def largest_chunk(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> int:
    """Replicates of one call, from the minibatch and the estimator's cost, which are the same on every device."""
    with torch.no_grad():
        evaluations = estimator.count_evaluations(problem.objective(problem.encode(batch), batch))
    return max(2, min(replicates, ROWS // (len(batch) * max(evaluations, 1))))


def _weight_rows(tallies: Tallies, extra: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for (space, group), tally in tallies.items():
        if space == "weights":
            rows += rows_of(space, [(group, tally)])
            if group in extra:
                rows.append(row(space, group, "data_variance", extra[group], tally.count))
    return rows


def _warnings(tallies: Tallies) -> list[str]:
    """Groups whose variance has no interval, or is decided by a few draws."""
    warnings = []
    for (space, group), tally in tallies.items():
        values = tally.deviations
        effective = 2 * effective_number(values)
        if not tally.enough and values.any():
            fewest = 2 * -(-FEWEST_VALUES // tally.examples)
            warnings.append(
                f"{group} ({space}): {tally.count} replicates of {tally.examples} examples are too few for intervals;"
                f" take {fewest} or more"
            )
        elif effective < FEWEST_EFFECTIVE and tally.count >= 2 * FEWEST_EFFECTIVE:
            warnings.append(
                f"{group} ({space}): heavy tails; {tally.count} replicates count as {effective:.1f}, so a few draws"
                " decide the estimates, and their intervals may miss the truth; take more replicates"
            )
    return warnings
