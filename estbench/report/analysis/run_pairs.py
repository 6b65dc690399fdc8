"""The runs of two results, of two commits or two machines, side by side: pairs of the same run.

Two runs are the same run if problem, estimator, seed and every setting of the protocol agree. Versions and sources of
the code may differ, because it is their effect that is looked for; so may options that a label leaves out, whose
defaults have changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from estbench.errors import EstbenchError
from estbench.experiment.keys import content_hash
from estbench.experiment.plan import PROTOCOL, Cell, cell_from_record
from estbench.report.analysis.frames import get_nested
from estbench.report.analysis.wording import format_list
from estbench.store import Results, Status
from estbench.store.merge import Source, find_difference
from estbench.store.results import MISSING
from estbench.store.tables import CURVES, GRADIENTS

# A run with one of these statuses has no numbers because of its code.
BROKEN = (Status.DIVERGED, Status.FAILED)
SIDES = ("OLD", "NEW")
# What the provenance of both sides is compared by.
PROVENANCE = ("estbench", "commit", "torch", "python", "device_name", "machine", "threads")
MOST_DIGITS = 12
Group = tuple[str, str, str]


class Recorded(NamedTuple):
    """A planned run in one of two results."""

    results: Results
    cell: Cell
    folder: str

    @property
    def status(self) -> str:
        """Its status; ``missing`` without a record."""
        return str(get_nested(self.results.records, self.folder, "status", default=MISSING))

    @property
    def device(self) -> str:
        """The type of device that it ran on; empty if it is not known."""
        return str(get_nested(self.results.records, self.folder, "environment", "device", default=""))

    def final_bound(self, metric: str) -> float:
        """Return the last test bound, in nats per example; NaN if it is not finite or there is none."""
        frame = self.results.home(self.folder).table("curves.parquet", CURVES).to_pandas()
        frame = frame[(frame["metric"] == metric) & (frame["split"] == "test")].sort_values("step", kind="stable")
        value = float(frame["value"].iloc[-1]) if len(frame) else math.nan
        return value if math.isfinite(value) else math.nan

    def variances(self) -> pd.Series[float]:
        """Return the finite gradient variances, indexed by trajectory, space, group and step."""
        frame = self.results.home(self.folder).table("gradients.parquet", GRADIENTS).to_pandas()
        frame = frame[(frame["statistic"] == "variance") & np.isfinite(frame["value"].astype(float))]
        values: pd.Series[float] = frame.set_index(["trajectory", "space", "group", "step"])["value"].astype(float)
        return values


@dataclass(frozen=True)
class RunPair:
    """One run in both results, with a record in each."""

    old: Recorded
    new: Recorded

    @property
    def is_done(self) -> bool:
        """Whether both have numbers."""
        return self.old.status == self.new.status == Status.DONE

    @property
    def is_same(self) -> bool:
        """Whether every number that was recorded is the same, bit for bit, but for the time it took."""
        sources = (Source(self.old.results, self.old.folder), Source(self.new.results, self.new.folder))
        return not find_difference(*sources)


@dataclass(frozen=True)
class RunPairs:
    """The runs that two results have in common, and those that only one of them has.

    Attributes
    ----------
    pairs
        Runs with a record in both, by group: problem, estimator, and the settings of training if they are swept.
    only_old, only_new, unpaired
        Sentences about runs that have no partner, and about those that have one that they cannot be compared with.
    """

    pairs: dict[Group, list[RunPair]]
    only_old: list[str]
    only_new: list[str]
    unpaired: list[str]

    def __iter__(self) -> Iterator[RunPair]:
        return (pair for pairs in self.pairs.values() for pair in pairs)

    def broken(self) -> list[RunPair]:
        """Return the runs that were done in the old results, and diverged or failed in the new ones."""
        return [pair for pair in self if pair.old.status == Status.DONE and pair.new.status in BROKEN]

    def mended(self) -> list[RunPair]:
        """Return the runs that diverged or failed in the old results, and are done in the new ones."""
        return [pair for pair in self if pair.new.status == Status.DONE and pair.old.status in BROKEN]


def pair_runs(old: Results, new: Results) -> RunPairs:
    """Pair the runs of two results.

    Raises
    ------
    EstbenchError
        If there is no pair. The error names the settings that differ.
    """
    sides = [_by_identity(results) for results in (old, new)]
    swept = sorted({*old.swept, *new.swept})
    pairs: dict[Group, list[RunPair]] = {}
    unpaired: dict[str, list[Recorded]] = {}
    for at in sides[0]:
        if at not in sides[1]:
            continue
        pair = RunPair(sides[0][at], sides[1][at])
        if MISSING in {pair.old.status, pair.new.status}:
            missing = [side for side, run in zip(SIDES, (pair.old, pair.new), strict=True) if run.status == MISSING]
            unpaired.setdefault(f"planned in both, without a record in {format_list(missing)}", []).append(pair.new)
        elif pair.old.device != pair.new.device:
            devices = [run.device or "an unknown device" for run in (pair.old, pair.new)]
            reason = f"on {devices[0]} in OLD and on {devices[1]} in NEW, which have other pixels and noise"
            unpaired.setdefault(reason, []).append(pair.new)
        else:
            settings = ", ".join(f"{name}={getattr(pair.new.cell.training, name)}" for name in swept)
            group = (pair.new.cell.problem.label, pair.new.cell.estimator.label, settings)
            pairs.setdefault(group, []).append(pair)
    alone = [[run for at, run in side.items() if at not in other] for side, other in (sides, sides[::-1])]
    if not pairs:
        reasons = [*_explain(*alone), *(f"{_name_runs(runs)}: {reason}" for reason, runs in unpaired.items())]
        why = "; ".join(reasons) or "no problem, estimator and seed is in both"
        raise EstbenchError(f"'{old.path}' and '{new.path}' have no run in common: {why}")
    only_old, only_new = (
        [f"only in {side}: {each}" for each in _name_groups(runs)] for side, runs in zip(SIDES, alone, strict=True)
    )
    sentences = [f"{_name_runs(runs)}: {reason}" for reason, runs in unpaired.items()]
    return RunPairs(pairs, only_old, only_new, [*_explain(*alone), *sentences])


def describe_code(pairs: RunPairs) -> list[str]:
    """Return what differs between the code and the machines of both sides, each in a sentence."""
    lines = []
    for name in PROVENANCE:
        found = [_provenance([getattr(pair, side) for pair in pairs], name) for side in ("old", "new")]
        if found[0] != found[1]:
            lines.append(f"{name}: {found[0]} in OLD, {found[1]} in NEW")
    changed: dict[str, None] = {}
    for pair in pairs:
        for kind in ("estimator", "problem"):
            before, after = (getattr(run.cell, kind) for run in (pair.old, pair.new))
            if before.version != after.version:
                changed[f"{after.label}: version {before.version} in OLD, {after.version} in NEW"] = None
            elif before.source != after.source:
                changed[f"{after.label}: its source has changed"] = None
            for option in sorted({*before.options, *after.options}):
                values = [options.get(option, "absent") for options in (before.options, after.options)]
                if values[0] != values[1]:
                    changed[f"{after.label}: its option {option} is {values[0]} in OLD, {values[1]} in NEW"] = None
    return lines + list(changed)


def _by_identity(results: Results) -> dict[str, Recorded]:
    runs = [Recorded(results, cell_from_record(cell), str(cell["folder"])) for cell in results.plan["cells"]]
    return {content_hash([_labels(run), _protocol(run)]): run for run in runs}


def _labels(run: Recorded) -> list[Any]:
    return [run.cell.problem.label, run.cell.estimator.label, run.cell.seed]


def _protocol(run: Recorded) -> dict[str, Any]:
    """Return the settings of a run by name, without the fingerprints of code."""
    parts = run.cell.protocol
    return {f"{part}.{name}": value for part in PROTOCOL for name, value in parts[part].items() if name != "source"}


def _explain(old: Iterable[Recorded], new: Iterable[Recorded]) -> list[str]:
    """Return a sentence about the settings in which runs of the same labels and seed differ; none if there are none."""
    others = {content_hash(_labels(run)): run for run in new}
    differing: dict[str, None] = {}
    for run in old:
        other = others.get(content_hash(_labels(run)))
        if other is not None:
            one, two = _protocol(run), _protocol(other)
            differing |= {
                f"{name} is {one.get(name)} in OLD and {two.get(name)} in NEW": None
                for name in {**one, **two}
                if one.get(name) != two.get(name)
            }
    return [f"same labels and seed, another protocol: {', '.join(differing)}"] if differing else []


def _name_groups(runs: Iterable[Recorded]) -> list[str]:
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        seeds.setdefault((run.cell.estimator.label, run.cell.problem.label), []).append(run.cell.seed)
    return [
        f"{estimator} on {problem} (seed{'' if len(each) == 1 else 's'} {', '.join(map(str, sorted(set(each))))})"
        for (estimator, problem), each in seeds.items()
    ]


def _name_runs(runs: Iterable[Recorded]) -> str:
    return format_list(_name_groups(runs))


def _provenance(runs: Iterable[Recorded], name: str) -> str:
    found = set()
    for run in runs:
        environment = get_nested(run.results.records, run.folder, "environment", default={})
        value = environment.get(name)
        text = "unknown" if value is None else str(value)[:MOST_DIGITS] if name == "commit" else str(value)
        found.add(f"{text} and changes" if name == "commit" and environment.get("uncommitted") else text)
    return " or ".join(sorted(found))
