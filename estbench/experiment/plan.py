"""The plan: an experiment expanded to cells, each with the key of its record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

from pydantic import Field

from estbench.errors import EstbenchError
from estbench.experiment.keys import SCHEMA_VERSION, content_hash
from estbench.experiment.spec import Evaluation, Experiment, Probe
from estbench.experiment.sweep import Sweep, check_names, swept_training, trainings, variants
from estbench.experiment.training import Training
from estbench.options import Frozen, validated
from estbench.registry import Resolved
from estbench.source import combine_fingerprints

PROTOCOL = ("training", "evaluation", "probe")
UNSAFE = re.compile(r"[^a-z0-9._]+")


@dataclass(frozen=True)
class Cell:
    """One training run: a problem, an estimator and a seed, with the protocol."""

    estimator: Resolved
    problem: Resolved
    seed: int
    training: Training
    evaluation: Evaluation
    probe: Probe

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything that the result depends on: not the machine, nor how the options were written."""
        return content_hash(
            {
                "schema": SCHEMA_VERSION,
                "problem": identity(self.problem.as_dict()),
                "estimator": identity(self.estimator.as_dict()),
                "seed": self.seed,
                "protocol": self.protocol,
            }
        )

    @property
    def code(self) -> str:
        """A hash of what is timed: equal for cells that differ only in their seed and their protocol."""
        return code_of(self.problem.as_dict(), self.estimator.as_dict())

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings of training, evaluation and probe."""
        return {part: _plain(getattr(self, part)) for part in PROTOCOL}

    @property
    def folder(self) -> str:
        """Name of the cell's folder: readable, valid on every file system, unique because of the key."""
        estimator, problem = map(_safe, (self.estimator.label, self.problem.name))
        return f"{estimator}-{problem}-s{self.seed}-{self.key[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved cell as plain data, for its record; cells share the dictionaries of equal parts."""
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

    def pairs(self) -> list[tuple[Resolved, Resolved]]:
        """Return every pair of an estimator and a problem, once."""
        pairs = {(id(cell.estimator), id(cell.problem)): (cell.estimator, cell.problem) for cell in self}
        return list(pairs.values())


Resolve = Callable[[str], Resolved]


def make_plan(
    experiment: Experiment, resolve_estimator: Resolve, resolve_problem: Resolve, resolve_metric: Resolve | None = None
) -> Plan:
    """Return the plan of problem x training x seed x estimator.

    The functions that resolve a variant are those of the registries, which this layer may not import. Without the last
    one, all metrics count as part of estbench.
    """
    estimators = _resolved(experiment.estimators, experiment.sweep, resolve_estimator, "estimator")
    problems = _resolved(experiment.problems, experiment.sweep, resolve_problem, "problem")
    check_names(experiment.sweep, estimators, problems)
    probe = _with_source(experiment.probe, resolve_estimator)
    evaluation = _with_metrics(experiment.evaluation, resolve_metric)
    cells = tuple(
        Cell(estimator, problem, seed, training, evaluation, probe)
        for problem in problems
        for training in trainings(experiment)
        for seed in experiment.seeds
        for estimator in estimators
    )
    return Plan(experiment, cells)


def _with_source(probe: Probe, resolve: Resolve) -> Probe:
    """Return the probe with the fingerprints of its estimators, because the numbers of every cell depend on them."""
    named = [name for name in (probe.shared, probe.reference) if name is not None and name != "exact"]
    return probe.model_copy(update={"source": combine_fingerprints(resolve(name).source for name in named)})


def _with_metrics(evaluation: Evaluation, resolve: Resolve | None) -> Evaluation:
    """Return the evaluation with the fingerprints of its metrics; no key depends on the order that these are in."""
    metrics = tuple(sorted(evaluation.metrics))
    source = combine_fingerprints(resolve(name).source for name in metrics) if resolve is not None else ""
    return evaluation.model_copy(update={"metrics": metrics, "source": source})


def protocol_hash(protocol: Mapping[str, Any], sweep: Iterable[str]) -> str:
    """Return a hash of what all cells of one comparison share: their protocol without the swept settings."""
    swept = sorted(swept_training(sweep))
    training = {name: value for name, value in protocol["training"].items() if name not in swept}
    return content_hash({**{part: protocol[part] for part in PROTOCOL}, "training": training, "sweep": swept})


def identity(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a resolved variant that a result depends on: everything but its label."""
    return {name: resolved[name] for name in ("name", "options", "version", "card", "source")}


def code_of(problem: Mapping[str, Any], estimator: Mapping[str, Any]) -> str:
    """Return a hash of a resolved problem and a resolved estimator."""
    return content_hash([identity(problem), identity(estimator)])


def cell_from_record(record: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from its plain data; raise ``EstbenchError`` if they are not those of a cell."""
    return validated(_RecordedCell, {name: record.get(name) for name in _RecordedCell.model_fields}, "cell").cell()


class _RecordedVariant(Frozen):
    name: str
    options: dict[str, Any]
    version: int
    label: str
    card: str
    source: str


class _RecordedCell(Frozen):
    """A cell as plain data, which may come from a stranger."""

    estimator: _RecordedVariant
    problem: _RecordedVariant
    seed: Annotated[int, Field(ge=0)]
    training: Training
    evaluation: Evaluation
    probe: Probe

    def cell(self) -> Cell:
        estimator, problem = (Resolved(**vars(variant)) for variant in (self.estimator, self.problem))
        return Cell(estimator, problem, self.seed, self.training, self.evaluation, self.probe)


def _resolved(written: tuple[str, ...], sweep: Sweep, resolve: Resolve, kind: str) -> list[Resolved]:
    resolved = variants(written, sweep, resolve)
    texts: dict[str, str] = {}
    for text, variant in resolved:
        if variant.label in texts:
            raise EstbenchError(f"'{text}' and '{texts[variant.label]}' are the same {kind}; remove one")
        texts[variant.label] = text
    return [variant for _, variant in resolved]


@lru_cache(maxsize=4096)
def _safe(text: str) -> str:
    return UNSAFE.sub("-", text.lower()).strip("-.")[:80]


@lru_cache(maxsize=4096)
def _plain(settings: Training | Evaluation | Probe) -> dict[str, Any]:
    """Return settings as plain data; the same dictionary for all cells that share them."""
    return settings.model_dump(mode="json")
