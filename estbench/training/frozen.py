"""Probes at frozen weights, without training: at initial weights, at a checkpoint, or at those of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators import Estimator, surrogate_of
from estbench.experiment import stream_seed
from estbench.failures import described, mistakes_of
from estbench.guarded import DamagedError, GuardedPath
from estbench.limits import RECORD_BYTES, RECORD_PARTS
from estbench.measure import Moments, exact_reference, frozen, measure_throughput, probe
from estbench.measure.gradients.probe import ProbePath
from estbench.problems import Problem
from estbench.problems import create as create_problem
from estbench.randomness import seeded
from estbench.stats import Interval, log_t_interval
from estbench.store import ResultsFolder
from estbench.store.files import read_json
from estbench.training.batches import evaluation_batch
from estbench.training.measuring import check_reference, checked, prepared, reference_of
from estbench.training.shared_checkpoints import adapted
from estbench.training.state import bytes_of, read_checkpoint
from estbench.variant import Variant


@dataclass(frozen=True)
class FrozenModel:
    """A problem at certain weights, with a name for tables."""

    name: str
    problem: Problem


def fresh(variant: str, seed: int, device: torch.device) -> FrozenModel:
    """Return a problem at the initial weights that every cell with this seed starts from."""
    with mistakes_of(f"problem '{variant}' cannot be built"), seeded(stream_seed(seed, "init"), device):
        return FrozenModel("initial weights", create_problem(variant).to(device))


def at_checkpoint(path: GuardedPath, variant: str | None, device: torch.device) -> FrozenModel:
    """Return a problem at the weights of a checkpoint; by default the problem in the ``cell.json`` next to it."""
    variant = variant or _problem_beside(path)
    if variant is None:
        raise EstbenchError(f"'{path}' does not say of which problem it is; name it with --problem")
    if not path.exists():
        raise EstbenchError(f"no checkpoint '{path}'; make one with `estbench run --keep-checkpoints`")
    problem = fresh(variant, 0, device).problem
    content = read_checkpoint(path, bytes_of(problem))
    if content is None or not isinstance(content.get("problem"), dict):
        raise EstbenchError(f"'{path}' is not a checkpoint of estbench, is damaged, or is not of '{variant}'")
    try:
        problem.load_state_dict(content["problem"])
    except (RuntimeError, TypeError, AttributeError):
        raise EstbenchError(f"the weights in '{path}' are not those of '{variant}'; name its --problem") from None
    return FrozenModel(f"step {content.get('step', '?')} of {path.parent.name}", problem)


def in_results(path: Path, device: torch.device) -> list[FrozenModel]:
    """Return the models of all finished cells of a results folder that kept their checkpoint."""
    folder = ResultsFolder(path)
    found = []
    for cell in folder.read_plan()["cells"]:
        checkpoint = folder.place(cell["folder"]) / "checkpoint.pt"
        if checkpoint.exists():
            variant = str(Variant(cell["problem"]["name"], cell["problem"]["options"]))
            found.append(at_checkpoint(checkpoint, variant, device))
    if not found:
        raise EstbenchError(f"no cell of '{path}' kept its checkpoint; run it with --keep-checkpoints")
    return found


def _problem_beside(path: GuardedPath) -> str | None:
    """Return the problem in the ``cell.json`` next to a checkpoint; None if there is none."""
    try:
        problem = read_json(path.parent / "cell.json", limits=(RECORD_BYTES, RECORD_PARTS))["cell"]["problem"]
        return str(Variant(problem["name"], problem["options"]))
    except (DamagedError, KeyError, TypeError, AttributeError):
        return None


ROUNDS = 8
STEPS = 5
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Probed:
    """One estimator at one place: its moments and what a gradient costs."""

    place: str
    estimator: str
    moments: Moments
    evaluations: int  # of f, per example
    milliseconds: Interval  # of one gradient of the minibatch


@dataclass(frozen=True)
class Unmeasured:
    """An estimator or a reference that raised an error, and the error in one line."""

    place: str
    name: str
    reason: str


def probe_alone(
    place: FrozenModel,
    variants: list[str],
    *,
    replicates: int,
    batch_size: int,
    seed: int = 0,
    reference: str | None = None,
    reference_replicates: int = 1000,
    tracking_steps: int = 200,
    layers: bool = False,
    path: ProbePath = "auto",
) -> tuple[list[Probed], list[Unmeasured]]:
    """Probe each estimator; learned parts first learn for some steps at these weights. Times are interleaved.

    An estimator that raises is left out, and the others are measured without it; where the reference does, bias is
    missing. A mistake of the user is raised.
    """
    problem, failures = place.problem, dict[str, str]()

    @contextmanager
    def attempt(name: str) -> Iterator[None]:
        try:
            yield
        except (EstbenchError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  (a plugin may raise anything)
            failures.setdefault(name, described(error))

    with mistakes_of(f"no minibatch at {place.name}"):
        batch = evaluation_batch(problem, "train", batch_size, stream_seed(seed, "probe"))
    against = None
    if reference == "exact":
        with mistakes_of(f"no exact gradient at {place.name}"):
            against = exact_reference(problem, batch, layers=layers)
    elif reference is not None:
        own = stream_seed(seed, "probe", reference=reference)
        with attempt(f"the reference {reference}"), seeded(own, problem.device):
            against = reference_of(reference, problem, batch, reference_replicates, own, layers=layers)
    ready: dict[str, Estimator] = {}
    moments: dict[str, Moments] = {}
    costs: dict[str, int] = {}
    for label in variants:
        with attempt(label):
            with seeded(stream_seed(seed, "noise", estimator=label), problem.device):
                estimator = adapted(
                    prepared(label, problem, batch),
                    problem,
                    steps=tracking_steps,
                    batch_size=batch_size,
                    learning_rate=LEARNING_RATE,
                    seed=stream_seed(seed, "data"),
                )
            draws = stream_seed(seed, "probe", step=0)
            moments[label] = probe(
                problem, estimator, batch, replicates, draws, layers=layers, reference=against, path=path
            )
            with frozen(problem, estimator), seeded(0, problem.device), torch.no_grad():
                costs[label] = estimator.count_evaluations(problem(batch))
            ready[label] = estimator
    seconds = _seconds(problem, ready, batch, seed, lambda label, error: failures.update({label: described(error)}))
    return (
        [
            Probed(place.name, label, moments[label], costs[label], seconds[label])
            for label in ready
            if label in seconds
        ],
        [Unmeasured(place.name, name, reason) for name, reason in failures.items()],
    )


def check_names(problem: Problem, variants: list[str], reference: str | None) -> list[str]:
    """Labels of the estimators; ``EstbenchError`` for one that is unknown, or that cannot serve on the problem."""
    options = getattr(problem, "options", type(problem).Options())
    if reference is not None:
        check_reference(reference, type(problem), options)
    return list(dict.fromkeys(checked(variant, type(problem), options).label for variant in variants))


def _seconds(
    problem: Problem,
    ready: dict[str, Estimator],
    batch: Tensor,
    seed: int,
    failed: Callable[[str, BaseException], None],
) -> dict[str, Interval]:
    """Milliseconds of one gradient, in rounds that are interleaved over the estimators; without one that raises."""

    def gradients(estimator: Estimator, steps: int) -> None:
        for _ in range(steps):
            problem.zero_grad()
            surrogate_of(estimator, problem(batch)).mean().backward()  # type: ignore[no-untyped-call]

    with frozen(problem, *ready.values()), seeded(stream_seed(seed, "noise"), problem.device):
        rows = measure_throughput(
            {label: lambda steps, own=own: gradients(own, steps) for label, own in ready.items()},  # type: ignore[misc]
            ROUNDS,
            STEPS,
            problem.device,
            failed=failed,
        )
    return {
        label: log_t_interval(np.array([row["seconds"] for row in rows if row["estimator"] == label]) * 1e3 / STEPS)
        for label in ready
        if any(row["estimator"] == label for row in rows)
    }
