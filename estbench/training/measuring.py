"""Measurements along a run, and their schedule: bounds, metrics, the gradient's norm, the gradient's moments."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from estbench.datasets.checks import SPLITS
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS, Estimator, check_supports, create_for, make_ready
from estbench.experiment import Cell, log_spaced, stream_seed
from estbench.measure import (
    Reference,
    estimated_reference,
    evaluate_elbo,
    exact_reference,
    frozen,
    pictures,
    probe,
)
from estbench.options import BaseOptions
from estbench.problems import PROBLEMS, Problem
from estbench.registry import Resolved
from estbench.training.batches import evaluation_batch
from estbench.training.divergence import DivergedError, attempt
from estbench.training.own_metrics import measure_metrics
from estbench.training.state import State, fingerprint
from estbench.variant import Variant


def evaluation_steps(state: State) -> set[int]:
    """Return the steps at which the bounds are evaluated."""
    return {*state.cell.evaluation.steps(state.cell.training.steps)}


def probe_steps(state: State) -> set[int]:
    """Return the steps of the probe, log-spaced from the first to the last; none without a probe."""
    protocol = state.cell.probe
    return {*log_spaced(1, state.cell.training.steps, protocol.points)} if protocol.replicates else set()


def evaluation_observations(state: State) -> dict[str, Tensor]:
    """Return the observations of each split for the bounds: one fixed draw of binarised pixels, for all seeds."""
    return {split: _observations(state, split, state.cell.evaluation.examples) for split in SPLITS}


def probe_batch(state: State) -> Tensor:
    """The minibatch that all probes of a run are taken on."""
    seed = stream_seed(state.cell.seed, "probe")
    return evaluation_batch(state.problem, "train", state.batches.batch_size, seed)


def evaluate(state: State, observations: dict[str, Tensor], training_seconds: float) -> None:
    """Add bounds, the gradient's norm and metrics to the curves; ``DivergedError`` if a bound is not finite."""
    protocol = state.cell.evaluation
    for split, x in observations.items():
        with attempt(state, f"{split} bounds", x):
            found = evaluate_elbo(state.problem, x, protocol.num_samples, _seed(state, split), own_bound=True)
            for metric, value in found._asdict().items():
                if value is None:
                    continue
                if not math.isfinite(value):
                    raise DivergedError(f"the {split} {metric} is not finite at step {state.step}")
                _add(state, training_seconds, split, metric, value)
    if state.step > 0:
        _add(state, training_seconds, "train", "gradient_norm", _gradient_norm(state))
    if state.step == state.cell.training.steps and protocol.final_num_samples:
        for split in ("validation", "test"):  # a tighter bound, once, on some of the images
            x = _observations(state, split, protocol.final_examples)
            with attempt(state, f"final {split} bound", x):
                found = evaluate_elbo(state.problem, x, protocol.final_num_samples, _seed(state, split))
                _add(state, training_seconds, split, "iwae_final", found.iwae)
    for split, metric, value in measure_metrics(state, observations):
        _add(state, training_seconds, split, metric, value)


def take_pictures(state: State, observations: Tensor) -> None:
    """Keep pictures of the trained model, if it makes images: see ``estbench.measure.pictures``."""
    if state.cell.evaluation.pictures:
        with attempt(state, "pictures"):
            seed = stream_seed(0, "pictures", dataset=state.problem.data.name)
            state.pictures = pictures(state.problem, observations, seed)


def probe_own(state: State, batch: Tensor) -> None:
    """Probe the run's estimator at the run's weights."""
    with attempt(state, "probe", batch):
        record_moments(state, state.problem, state.estimator, batch, state.step, "own")


def record_moments(
    state: State, problem: Problem, estimator: Estimator, batch: Tensor, step: int, trajectory: str
) -> None:
    """Probe an estimator at a problem's weights, and add the rows to the cell's."""
    protocol, seed = state.cell.probe, state.cell.seed
    name = "probe" if trajectory == "own" else "shared probe"
    reference = None
    with attempt(state, f"reference of the {name}"):
        reference = _reference(state, problem, batch, step, shared=trajectory == "shared")
    moments = probe(
        problem,
        estimator,
        batch,
        protocol.replicates,
        stream_seed(seed, "probe", step=step),
        reference=reference,
        path=protocol.path,
    )
    if moments.path == "loop" and protocol.path != "loop":
        state.remark(name, f"takes one backward call per replicate: {moments.reason}")
    for line in moments.absent:
        state.remark(name, f"lacks {line}")
    if moments.device != problem.device.type:
        state.remark(name, f"is taken on the {moments.device}: {problem.device.type} has no double precision")
    state.gradients += [{"step": step, "trajectory": trajectory, **row} for row in moments.rows]


def check_probe(cell: Cell) -> None:
    """Raise ``EstbenchError`` if a cell's probe names an estimator that is unknown, or that cannot be used there."""
    problem = PROBLEMS.get(cell.problem.name)
    options = PROBLEMS.options(Variant(cell.problem.name, cell.problem.options))
    if cell.probe.shared is not None:
        checked(cell.probe.shared, problem, options)
    if cell.probe.reference is not None:
        check_reference(cell.probe.reference, problem, options)


def check_reference(name: str, problem: type[Problem], options: BaseOptions) -> None:
    """Raise ``EstbenchError`` for a reference that is unknown, does not support the problem, or is biased itself."""
    if name == "exact":
        return
    resolved = checked(name, problem, options)
    if not ESTIMATORS.get(resolved.name).unbiased:
        raise EstbenchError(
            f"the reference '{resolved.label}' is biased itself; choose an unbiased estimator, or 'exact'"
        )


def checked(variant: str, problem: type[Problem], options: BaseOptions) -> Resolved:
    """Resolve an estimator; ``EstbenchError`` if it is unknown or does not support the problem."""
    resolved = ESTIMATORS.resolve(variant)
    check_supports(ESTIMATORS.get(resolved.name), problem, options, ESTIMATORS.options(variant))
    return resolved


def _add(state: State, training_seconds: float, split: str, metric: str, value: float) -> None:
    state.curves.append(
        {
            "step": state.step,
            "examples": state.examples,
            "evaluations": state.evaluations,
            "seconds": training_seconds,
            "split": split,
            "metric": metric,
            "value": value,
        }
    )


def _seed(state: State, split: str) -> int:
    return stream_seed(state.cell.seed, "evaluation", split=split)


def _observations(state: State, split: str, count: int) -> Tensor:
    seed = stream_seed(0, "evaluation", dataset=state.problem.data.name, split=split)
    return evaluation_batch(state.problem, split, count, seed)


def _gradient_norm(state: State) -> float:
    """Euclidean norm of the last step's gradient over all of the model's weights, before any clipping."""
    if state.unclipped_norm is not None:
        return float(state.unclipped_norm)
    gradients = [weight.grad for weight in state.problem.parameters() if weight.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


# References at shared checkpoints, which are the same for each estimator in turn.
_recent: dict[tuple[Any, ...], Reference] = {}
MOST_RECENT = 8


def _reference(state: State, problem: Problem, batch: Tensor, step: int, *, shared: bool) -> Reference | None:
    """Return the reference gradient that bias is measured against; None if the protocol has no reference."""
    protocol = state.cell.probe
    if protocol.reference is None:
        return None
    seed = stream_seed(state.cell.seed, "probe", step=step, reference=protocol.reference)
    given = protocol.reference, problem, batch, protocol.reference_replicates, seed
    if not shared:
        return reference_of(*given)
    identity = hashlib.sha256(batch.cpu().numpy().tobytes()).hexdigest()
    model = state.cell.problem.label, fingerprint(problem), str(problem.device)
    key = *model, identity, protocol.reference, given[3], seed
    if key not in _recent:
        while len(_recent) >= MOST_RECENT:
            del _recent[next(iter(_recent))]
        _recent[key] = reference_of(*given)
    return _recent[key]


def reference_of(
    name: str, problem: Problem, batch: Tensor, replicates: int, seed: int, *, layers: bool = False
) -> Reference:
    """Return the exact gradient if ``name`` is ``exact``, else that of the named estimator from many draws."""
    if name == "exact":
        return exact_reference(problem, batch, layers=layers)
    estimator = prepared(name, problem, batch)
    return estimated_reference(problem, estimator, batch, replicates, seed, layers=layers)


def prepared(variant: str, problem: Problem, batch: Tensor) -> Estimator:
    """An estimator, its learned parts sized for the problem."""
    estimator = create_for(variant, problem)
    with frozen(problem), torch.no_grad():
        return make_ready(estimator, problem(batch))
