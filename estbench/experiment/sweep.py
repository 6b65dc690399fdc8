"""Sweeps: settings with several values. Every combination is a cell, with the same key as if it were set by hand.

A sweep is over a setting of ``[training]`` (``learning_rate``, ``batch_size``), an option of the problems
(``latent_size``) or an option of the estimators (``num_samples``). An option is swept in every variant that has it; the
other variants are used as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from estbench.errors import EstbenchError, did_you_mean
from estbench.experiment.spec import Experiment, Value
from estbench.experiment.training import Training
from estbench.options import validated
from estbench.registry import Resolved
from estbench.variant import Variant

Sweep = Mapping[str, tuple[Value, ...]]


def swept_training(sweep: Iterable[str]) -> list[str]:
    """Return the swept settings that belong to ``[training]``."""
    return [name for name in sweep if name in Training.model_fields]


def trainings(experiment: Experiment) -> list[Training]:
    """Return the training settings at every combination of the swept ones."""
    names = swept_training(experiment.sweep)
    base = experiment.training.model_dump(mode="json")
    return [
        validated(Training, base | dict(zip(names, values, strict=True)), "sweep")
        for values in itertools.product(*(experiment.sweep[name] for name in names))
    ]


def variants(written: Sequence[str], sweep: Sweep, resolve: Callable[[str], Resolved]) -> list[tuple[str, Resolved]]:
    """Return each variant as it was written, with its resolved form at every combination of its swept options."""
    expanded = []
    for text in written:
        base = resolve(text)
        given = Variant.parse(text)
        names = [name for name in sweep if name in base.options and name not in Training.model_fields]
        for name in names:
            if name in given.options:
                raise EstbenchError(f"'{text}' sets {name}, which is swept; remove one of the two")
        for values in itertools.product(*(sweep[name] for name in names)):
            options = given.options | dict(zip(names, values, strict=True))
            expanded.append((text, resolve(str(Variant(given.name, options)))))
    return expanded


def check_names(sweep: Sweep, estimators: Collection[Resolved], problems: Collection[Resolved]) -> None:
    """Raise ``EstbenchError`` if no variant has a swept setting, or if estimators and problems both have it."""
    training = set(Training.model_fields)
    kinds = [{name for variant in kind for name in variant.options} for kind in (estimators, problems)]
    for name in sweep:
        if name in training:
            continue
        owners = sum(name in options for options in kinds)
        if owners == 0:
            raise EstbenchError(
                f"sweep: no training setting, estimator option or problem option is called '{name}'; "
                f"{did_you_mean(name, training.union(*kinds))}"
            )
        if owners == 2:
            raise EstbenchError(f"sweep: estimators and problems both have '{name}'; list the variants instead")


def merge_sweeps(sweeps: Iterable[Mapping[str, Sequence[Value]]]) -> dict[str, list[Value]]:
    """Return all values of every swept setting, in the order of their first appearance."""
    merged: dict[str, list[Value]] = {}
    for sweep in sweeps:
        for name, values in sweep.items():
            known = merged.setdefault(name, [])
            known += [value for value in values if value not in known]
    return merged


def family(label: str, sweep: Collection[str]) -> str:
    """Return a label without the options that are swept."""
    if not any(name in label for name in sweep):
        return label
    variant = Variant.parse(label)
    return str(Variant(variant.name, {name: value for name, value in variant.options.items() if name not in sweep}))
