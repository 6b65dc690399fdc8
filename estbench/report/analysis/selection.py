"""Sweeps in a report: how each estimator fared at every setting, and the setting that speaks for it.

What is swept of training and of the estimators' options is *tuned*: for each estimator and problem the setting with the
best mean validation ELBO is picked, and it alone enters the comparisons, which are made on the test split. A swept
option of a problem (its number of latents) makes problems of their own, which are never pooled or chosen between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from estbench.experiment.sweep import family
from estbench.report.analysis import frames
from estbench.store import Results

if TYPE_CHECKING:
    import pandas as pd

Setting = tuple[tuple[str, Any], ...]
BySeed = dict[int, float]


class Trial(NamedTuple):
    """One setting of one estimator on one problem."""

    problem: str
    estimator: str  # without what is swept
    label: str
    setting: Setting  # the tuned settings, by name
    cells: list[dict[str, Any]]
    validation: BySeed  # final ELBO of the cells that are done
    test: BySeed

    @property
    def score(self) -> tuple[int, float]:
        """More finished seeds come first, then the mean validation ELBO; the test split has no say."""
        values = self.validation.values()
        return len(values), sum(values) / len(values) if values else -math.inf


def tuned(results: Results) -> list[str]:
    """The swept settings that an estimator is tuned in: of training, and options of estimators."""
    options = {name for cell in results.plan["cells"] for name in _options(cell["estimator"])}
    return [name for name in results.sweep if name in results.swept or name in options]


def trials(results: Results) -> list[Trial]:
    """Every setting of every estimator on every problem, in the order of the plan."""
    names = tuned(results)
    groups: dict[tuple[str, str, Setting], list[dict[str, Any]]] = {}
    for cell in results.plan["cells"]:
        of = cell["problem"]["label"], cell["estimator"]["label"], _setting(cell, names)
        groups.setdefault(of, []).append(cell)
    finals = {split: _finals(results, split) for split in ("validation", "test")}
    strip = cache(lambda label: family(label, names))
    return [
        Trial(
            problem,
            strip(label),
            label,
            setting,
            cells,
            *({c["seed"]: final[c["folder"]] for c in cells if c["folder"] in final} for final in finals.values()),
        )
        for (problem, label, setting), cells in groups.items()
    ]


def picks(found: list[Trial]) -> dict[tuple[str, str], Trial]:
    """The trial that speaks for each estimator on each problem; of equals, the first in the plan."""
    best: dict[tuple[str, str], Trial] = {}
    for trial in found:
        of = trial.problem, trial.estimator
        if of not in best or trial.score > best[of].score:
            best[of] = trial
    return best


def picked(results: Results) -> Results:
    """The results of the picked settings alone; all of them where nothing is tuned."""
    if not tuned(results):
        return results
    kept = {cell["folder"] for trial in picks(trials(results)).values() for cell in trial.cells}
    return restricted(results, kept)


def restricted(results: Results, folders: set[str]) -> Results:
    """The results with some of their cells."""
    return dataclasses.replace(
        results,
        plan={**results.plan, "cells": [cell for cell in results.plan["cells"] if cell["folder"] in folders]},
        records={folder: record for folder, record in results.records.items() if folder in folders},
    )


def notices(results: Results) -> list[str]:
    """What was picked, and by what."""
    if not tuned(results):
        return []
    found = picks(trials(results))
    several = len(frames.problems(results)) > 1
    said = [
        f"{trial.estimator}{f' on {trial.problem}' if several else ''}: {written(trial.setting)}"
        for trial in found.values()
        if trial.setting
    ]
    rule = (
        "Each estimator is shown at the setting with the best mean validation ELBO, of those with the most finished "
        "seeds; the test split had no say in it."
    )
    return [f"Swept: {', '.join(tuned(results))}. {rule} {'; '.join(said)}."]


def written(setting: Setting) -> str:
    """A setting in words."""
    return ", ".join(f"{name}={value}" for name, value in setting)


def _options(estimator: Mapping[str, Any]) -> Mapping[str, Any]:
    options = estimator.get("options")
    return options if isinstance(options, Mapping) else {}


def _setting(cell: dict[str, Any], names: list[str]) -> Setting:
    known = {**_options(cell["estimator"]), **cell["training"]}
    return tuple((name, known[name]) for name in names if name in known)


def _finals(results: Results, split: str) -> dict[str, float]:
    """The final ELBO of every cell that is done, by its folder.

    Cells of one label and seed differ in the swept settings of training, so they are looked at setting by setting.
    """
    groups: dict[Setting, set[str]] = {}
    for cell in results.plan["cells"]:
        groups.setdefault(tuple((name, cell["training"][name]) for name in results.swept), set()).add(cell["folder"])
    found: dict[str, float] = {}
    for folders in groups.values():
        finals: pd.DataFrame = frames.done(frames.final_values(restricted(results, folders), split=split))
        found |= dict(zip(finals["folder"], finals["value"].astype(float), strict=True))
    return found
