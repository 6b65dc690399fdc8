"""The experiment file: a TOML document, checked field by field."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from estbench.errors import EstbenchError, did_you_mean
from estbench.experiment.training import MOST, Count, Training
from estbench.options import Frozen, validated
from estbench.toml_files import read_toml
from estbench.variant import NAME, parse_value

# A larger number is almost certainly a seed that was given as a count.
MOST_SEEDS = 10_000
# Combinations of swept settings; each of them is run with every seed.
MOST_COMBINATIONS = 10_000

# Upper limit of draws for one example or one measurement.
MOST_DRAWS = 10**6

# The folder of the literature's settings.
PAPERS = "papers"

Value = bool | int | float | str


def log_spaced(first: int, last: int, points: int) -> list[int]:
    """Return whole numbers with equal ratios from ``first`` to ``last``; the same number only once.

    >>> log_spaced(1, 1000, 4)
    [1, 10, 100, 1000]
    >>> log_spaced(10, 2000, 1)
    [2000]
    """
    ratio = last / first
    return sorted({*(round(first * ratio ** (at / (points - 1))) for at in range(points - 1)), last})


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"is given twice: {', '.join(repeated)}")
    return values


# The first evaluation after step 0 is at this part of the run.
FIRST_EVALUATION = 1 / 200


class Evaluation(Frozen):
    """When and how the bounds are computed; every estimator is evaluated with the same draws."""

    points: Count = Field(
        default=20, description="evaluations after step 0, log-spaced from 1/200 of the run to the last step"
    )
    every: Count | None = Field(
        default=None, description="steps between evaluations in place of points; step 0 and the last are evaluated, too"
    )
    num_samples: Annotated[int, Field(ge=2, le=MOST_DRAWS)] = Field(
        default=16,
        description="draws of each image; K of the IWAE bound, if the problem's objective has no K of its own",
    )
    examples: Count = Field(default=500, description="images per split, at most")
    final_num_samples: int = Field(
        default=0, ge=0, le=MOST_DRAWS, description="K of a tighter IWAE bound at the end; 0 for none"
    )
    final_examples: Count = Field(default=100, description="images per split for the tighter bound")
    pictures: bool = Field(default=True, description="whether a run ends with pictures: reconstructions and samples")
    metrics: tuple[str, ...] = Field(default=(), description="further metrics, by name; see `estbench list metrics`")
    source: str = Field(
        default="", description="fingerprint of the metrics that are not part of estbench; set by a run"
    )

    @field_validator("metrics")
    @classmethod
    def _named_once(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(metrics)

    def steps(self, last: int) -> list[int]:
        """Return the steps that are evaluated in a run of ``last`` steps, in their order."""
        if self.every is not None:
            return sorted({*range(0, last, self.every), last})
        return [0, *log_spaced(max(1, round(last * FIRST_EVALUATION)), last, self.points)]

    @model_serializer(mode="wrap")
    def _one_schedule(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the schedule that is not in use, and absent metrics, so that no key of a cell depends on them."""
        idle = ["every" if self.every is None else "points"]
        idle += [name for name in ("metrics", "source") if not getattr(self, name)]
        return {name: value for name, value in dump(self).items() if name not in idle}


class Probe(Frozen):
    """Where and how often the gradient is measured at frozen weights."""

    replicates: int = Field(default=100, le=MOST_DRAWS, description="independent draws of the gradient; 0 for no probe")
    points: Count = Field(default=5, description="checkpoints, log-spaced over the run, the last step among them")
    path: Literal["auto", "fast", "loop"] = Field(
        default="auto", description="how weights are measured; fast works for some layers only, loop for any"
    )
    shared: str | None = Field(
        default=None, description="the estimator of a reference run; all are also measured at its checkpoints"
    )
    tracking_steps: int = Field(
        default=200, ge=0, description="steps that learned parts of an estimator take at each shared checkpoint"
    )
    reference: str | None = Field(
        default=None, description="the reference of the bias: 'exact', or an estimator; without it, no bias"
    )
    reference_replicates: int = Field(default=1000, ge=3, le=MOST, description="draws of an estimated reference")
    source: str = Field(
        default="", description="fingerprint of the two estimators, if they are not part of estbench; set by a run"
    )

    @field_validator("replicates")
    @classmethod
    def _enough_for_an_interval(cls, value: int) -> int:
        if value != 0 and value < 3:
            raise ValueError(f"takes at least 3 replicates for an interval, or 0 for no probe, not {value}")
        return value

    @model_serializer(mode="wrap")
    def _without_idle_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings that have no effect, so that no key of a cell depends on them."""
        data: dict[str, Any] = dump(self)
        idle = [*(("shared", "tracking_steps") if self.shared is None else ())]
        idle += [*(("reference", "reference_replicates") if self.reference is None else ())]
        idle += [*(("source",) if not self.source else ())]
        return {name: value for name, value in data.items() if name not in idle}


Measured = TypeVar("Measured", Evaluation, Probe)


Mode = Literal["eager", "compiled"]
# The mode in which everything is trained, and without which no time is given anywhere else.
EAGER: Mode = "eager"


class Throughput(Frozen):
    """Timed rounds after training, interleaved over the estimators."""

    rounds: int = Field(default=8, ge=0, description="timed rounds per estimator; 0 for no measurement")
    steps: Count = Field(default=20, description="training steps in a round")
    reference: str = Field(default="reparam", description="the estimator in the denominator of the ratios")
    batch_sizes: tuple[Count, ...] = Field(
        default=(), description="further sizes of minibatches; that of the training is always timed"
    )
    modes: tuple[Mode, ...] = Field(
        default=(EAGER,), description="how a step is taken when it is timed: eager, or compiled by torch.compile"
    )

    @field_validator("batch_sizes", "modes")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _distinct(values)

    @field_validator("modes")
    @classmethod
    def _some(cls, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        if not modes:
            raise ValueError("needs at least one mode, got none; for no measurement set rounds = 0")
        return modes

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as before these settings were there, so that plans of before stay as they are."""
        fields = type(self).model_fields
        idle = [name for name in ("batch_sizes", "modes") if getattr(self, name) == fields[name].default]
        return {name: value for name, value in dump(self).items() if name not in idle}


def _as_seeds(value: Any) -> Any:
    """Return the seeds 0 to n - 1 for a count n; the data as they are for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"needs at least one seed, got {value}")
        if value > MOST_SEEDS:
            raise ValueError(
                f"asks for {value:,} seeds, and the limit is {MOST_SEEDS:,}; for the single seed {value} write "
                f"seeds = [{value}], or --seeds {value},"
            )
        return tuple(range(value))
    return tuple(value) if isinstance(value, list) else value


# Texts about the experiment as it is written.
WORDS = ("question", "expect", "answer")
# Texts about results, which an experiment has only after it was run.
TEXTS = ("answer", "surprise", "limits")


class Experiment(Frozen):
    """The content of an experiment file.

    ``question``, ``expect``, ``answer``, ``surprise`` and ``limits`` are for people: the report shows them, and they
    change no result.
    """

    name: str = Field(default="experiment", description="a short name; without it, that of the file")
    question: str = Field(default="", description="what the experiment asks")
    expect: str = Field(default="", description="what is expected, written before it is run")
    answer: str = Field(default="", description="what its results say, in one or two sentences")
    surprise: tuple[str, ...] = Field(default=(), description="what was not expected")
    limits: tuple[str, ...] = Field(default=(), description="what its results do not show")
    target: float | None = Field(
        default=None,
        description="test bound whose cost is compared; by default 1, 5 and 20 nats below the best",
    )
    estimators: tuple[str, ...] = Field(description="the estimators, as name[option=value,...]")
    problems: tuple[str, ...] = Field(default=("vae",), description="the problems, written like estimators")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_seeds)] = Field(
        default=(0,), description="the seeds, or their number n for 0 to n - 1; one run for each"
    )
    training: Training = Field(default=Training(), description="how every run is trained")
    evaluation: Evaluation = Field(default=Evaluation(), description="when and how bounds are computed")
    probe: Probe = Field(default=Probe(), description="where and how often gradients are measured")
    throughput: Throughput = Field(default=Throughput(), description="how speed is measured, after training")
    sweep: dict[str, tuple[Value, ...]] = Field(
        default={}, description="settings of training, or options, with several values; one cell for each"
    )

    @model_serializer(mode="wrap")
    def _without_empty_texts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value or name not in TEXTS}

    @field_validator("name")
    @classmethod
    def _may_name_a_folder(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"takes a-z, 0-9, - and _, and begins with a letter or digit; '{name}' does not")
        return name

    @field_validator("sweep")
    @classmethod
    def _sensible(cls, sweep: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
        for name, values in sweep.items():
            if not values:
                raise ValueError(f"{name} needs at least one value, got none")
            repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
            if repeated:
                raise ValueError(f"{name} is given twice: {', '.join(repeated)}")
        combinations = math.prod(len(values) for values in sweep.values())
        if combinations > MOST_COMBINATIONS:
            raise ValueError(f"has {combinations:,} combinations of settings; the limit is {MOST_COMBINATIONS:,}")
        return sweep

    @field_validator("evaluation", "probe")
    @classmethod
    def _as_written(cls, part: Measured) -> Measured:
        if part.source:
            raise ValueError("source is set by a run; leave it out")
        return part

    @field_validator("estimators", "problems", "seeds")
    @classmethod
    def _some_and_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("needs at least one entry, got none")
        return _distinct(values)


def read_experiment(path: str | Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Read an experiment file; ``overrides`` maps dotted keys (``training.learning_rate``) to values."""
    path = Path(path)
    data = read_toml(path, f"no experiment file '{path}'; see `estbench list experiments`")
    data.setdefault("name", re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "experiment")
    return experiment_from(data, overrides, what=path.name)


def experiment_from(
    data: dict[str, Any], overrides: dict[str, Any] | None = None, what: str = "experiment"
) -> Experiment:
    """Make an experiment of plain data, changed by ``overrides``; raise ``EstbenchError`` if a field is wrong."""
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        table: Any = data
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise EstbenchError(f"cannot set '{key}': '{parent}' is a value, not a table")
        table[last] = value
    return validated(Experiment, data, what)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the key and the value of ``--set key=value``."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise EstbenchError(f"cannot read '--set {text}'; write --set key=value, for example training.steps=500")
    return key, value if key in WORDS and value[0] not in "\"'" else parse_value(value)


def shipped_experiments() -> dict[str, Path]:
    """Return the files of the ready experiments by name, as installed or in the source tree; those of papers last."""
    package = Path(__file__).parents[1]
    folders = (package / "_experiments", package.parent / "experiments")
    folder = next((folder for folder in folders if folder.is_dir()), package)
    own = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return own | {f"{PAPERS}/{path.stem}": path for path in sorted((folder / PAPERS).glob("*.toml"))}


def find_shipped(name: str) -> Path | None:
    """Return the file of a ready experiment, None if there is none of this name; ``papers/`` may be left out."""
    shipped = shipped_experiments()
    return shipped.get(name) or shipped.get(f"{PAPERS}/{name}")


def find_experiment(path_or_name: str) -> Path:
    """Return the experiment file for a path, or for the name of a ready experiment."""
    path = Path(path_or_name)
    named = find_shipped(path_or_name)
    if path.is_file() or path.suffix == ".toml" or (named is None and len(path.parts) != 1):
        return path
    if named is None:
        hint = did_you_mean(path_or_name, shipped_experiments())
        raise EstbenchError(f"no experiment file or ready experiment '{path_or_name}'; {hint}")
    return named
