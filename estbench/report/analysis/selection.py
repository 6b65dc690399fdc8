"""Sweeps in a report: the bounds of each estimator at every setting, and the setting that is picked for it.

The swept settings of training and options of estimators are *tuned*: for each estimator and problem, the setting with
the best mean validation ELBO is picked. Only that setting enters the comparisons, which are made on the test split. A
swept option of a problem (its number of latents) makes separate problems, which are never pooled or chosen between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from estbench.experiment.sweep import family
from estbench.report.analysis.frames import Frames, done
from estbench.store import Results

if TYPE_CHECKING:
    import pandas as pd

HyperparameterSetting = tuple[tuple[str, Any], ...]
BySeed = dict[int, float]


class Trial(NamedTuple):
    """One setting of one estimator on one problem."""

    problem: str
    estimator: str  # its label without the swept options
    label: str
    setting: HyperparameterSetting  # the tuned settings, by name
    cells: list[dict[str, Any]]
    validation: BySeed  # final ELBO of the cells that are done
    test: BySeed

    @property
    def score(self) -> tuple[int, float]:
        """The rank of a trial: the number of finished seeds, then the mean validation ELBO; never the test split."""
        values = self.validation.values()
        return len(values), sum(values) / len(values) if values else -math.inf


@dataclass(frozen=True)
class Selection:
    """The settings of a sweep that were tried, and those that were picked.

    Attributes
    ----------
    tuned
        The swept settings that an estimator is tuned in: of training, and options of estimators.
    trials
        Every setting of every estimator on every problem, in the order of the plan; empty if nothing was swept.
    picked
        The best trial of each estimator on each problem.
    """

    tuned: list[str]
    trials: list[Trial]
    picked: list[Trial]

    def restrict(self, results: Results) -> Results:
        """Return the results at only the picked settings; all results if nothing is tuned."""
        if not self.tuned:
            return results
        return _restrict(results, {cell["folder"] for trial in self.picked for cell in trial.cells})


def select(results: Results) -> Selection:
    """Pick the best setting of each estimator on each problem."""
    names = _find_tuned(results)
    trials = _find_trials(results, names) if results.sweep else []
    return Selection(names, trials, _pick(trials))


def _find_tuned(results: Results) -> list[str]:
    options = {name for cell in results.plan["cells"] for name in _options(cell["estimator"])}
    return [name for name in results.sweep if name in results.swept or name in options]


def _find_trials(results: Results, names: list[str]) -> list[Trial]:
    groups: dict[tuple[str, str, HyperparameterSetting], list[dict[str, Any]]] = {}
    for cell in results.plan["cells"]:
        group = cell["problem"]["label"], cell["estimator"]["label"], _setting(cell, names)
        groups.setdefault(group, []).append(cell)
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


def _pick(trials: list[Trial]) -> list[Trial]:
    """Return the best trial of each estimator on each problem; of equals, the first in the plan."""
    best: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        key = trial.problem, trial.estimator
        if key not in best or trial.score > best[key].score:
            best[key] = trial
    return list(best.values())


def _restrict(results: Results, folders: set[str]) -> Results:
    """Return the results with only the cells of some folders."""
    return dataclasses.replace(
        results,
        plan={**results.plan, "cells": [cell for cell in results.plan["cells"] if cell["folder"] in folders]},
        records={folder: record for folder, record in results.records.items() if folder in folders},
    )


def describe_selection(selection: Selection) -> list[str]:
    """Return a sentence that says what was picked, and how; none if nothing is tuned."""
    if not selection.tuned:
        return []
    several = len({trial.problem for trial in selection.trials}) > 1
    settings = [
        f"{trial.estimator}{f' on {trial.problem}' if several else ''}: {describe_setting(trial.setting)}"
        for trial in selection.picked
        if trial.setting
    ]
    rule = (
        "Each estimator is shown at the setting with the best mean validation ELBO, of those with the most finished "
        "seeds; the test split had no say in it."
    )
    return [f"Swept: {', '.join(selection.tuned)}. {rule} {'; '.join(settings)}."]


def describe_setting(setting: HyperparameterSetting) -> str:
    """Return a setting in words."""
    return ", ".join(f"{name}={value}" for name, value in setting)


def _options(estimator: Mapping[str, Any]) -> Mapping[str, Any]:
    options = estimator.get("options")
    return options if isinstance(options, Mapping) else {}


def _setting(cell: dict[str, Any], names: list[str]) -> HyperparameterSetting:
    known = {**_options(cell["estimator"]), **cell["training"]}
    return tuple((name, known[name]) for name in names if name in known)


def _finals(results: Results, split: str) -> dict[str, float]:
    """Return the final ELBO of every cell that is done, by its folder.

    Cells of one label and seed differ in the swept settings of training, so each setting is read separately.
    """
    groups: dict[HyperparameterSetting, set[str]] = {}
    for cell in results.plan["cells"]:
        groups.setdefault(tuple((name, cell["training"][name]) for name in results.swept), set()).add(cell["folder"])
    values: dict[str, float] = {}
    for folders in groups.values():
        finals: pd.DataFrame = done(Frames(_restrict(results, folders)).final_values(split=split))
        values |= dict(zip(finals["folder"], finals["value"].astype(float), strict=True))
    return values
