"""The plan: an experiment expanded to cells, each with the key that its record is found by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from estbench.errors import EstbenchError
from estbench.experiment.keys import SCHEMA_VERSION, content_hash
from estbench.experiment.spec import Evaluation, Experiment, Probe, Training
from estbench.registry import Resolved
from estbench.validation import validated


@dataclass(frozen=True)
class Cell:
    """One training run: a problem, an estimator and a seed, with the protocol."""

    estimator: Resolved
    problem: Resolved
    seed: int
    training: Training
    evaluation: Evaluation
    probe: Probe

    @property
    def key(self) -> str:
        """SHA-256 of everything that the result depends on; never of the machine or of how options were written."""
        return content_hash(
            {
                "schema": SCHEMA_VERSION,
                "problem": _identity(self.problem),
                "estimator": _identity(self.estimator),
                "seed": self.seed,
                "protocol": self.protocol,
            }
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """What all cells of one comparison share."""
        return {part: getattr(self, part).model_dump(mode="json") for part in ("training", "evaluation", "probe")}

    @property
    def folder(self) -> str:
        """Name of the cell's folder: readable, safe on every file system, unique by its key."""
        label = re.sub(r"[^a-z0-9._]+", "-", self.estimator.label.lower()).strip("-.")
        return f"{label[:80]}-{self.problem.name}-s{self.seed}-{self.key[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """The resolved cell as plain data, for its record."""
        return {
            "key": self.key,
            "folder": self.folder,
            "estimator": self.estimator.as_dict(),
            "problem": self.problem.as_dict(),
            "seed": self.seed,
            **self.protocol,
        }


@dataclass(frozen=True)
class Plan:
    """All cells of an experiment."""

    experiment: Experiment
    cells: tuple[Cell, ...]

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)


Resolve = Callable[[str], Resolved]


def make_plan(experiment: Experiment, resolve_estimator: Resolve, resolve_problem: Resolve) -> Plan:
    """Expand problem x estimator x seed. The resolvers come from the registries, which this layer may not import."""
    estimators = _resolved(experiment.estimators, resolve_estimator, "estimator")
    problems = _resolved(experiment.problems, resolve_problem, "problem")
    cells = tuple(
        Cell(estimator, problem, seed, experiment.training, experiment.evaluation, experiment.probe)
        for problem in problems
        for seed in experiment.seeds
        for estimator in estimators
    )
    return Plan(experiment, cells)


def cell_from_record(record: dict[str, Any]) -> Cell:
    """Rebuild a cell from its plain data."""
    return Cell(
        Resolved(**record["estimator"]),
        Resolved(**record["problem"]),
        record["seed"],
        validated(Training, record["training"], "training"),
        validated(Evaluation, record["evaluation"], "evaluation"),
        validated(Probe, record["probe"], "probe"),
    )


def _resolved(variants: tuple[str, ...], resolve: Resolve, kind: str) -> list[Resolved]:
    resolved = [resolve(variant) for variant in variants]
    labels = [item.label for item in resolved]
    for first, label in enumerate(labels):
        if label in labels[:first]:
            raise EstbenchError(
                f"'{variants[first]}' and '{variants[labels.index(label)]}' are the same {kind}; drop one"
            )
    return resolved


def _identity(resolved: Resolved) -> dict[str, Any]:
    return {"name": resolved.name, "options": resolved.options, "version": resolved.version}
