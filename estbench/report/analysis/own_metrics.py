"""The metrics that an experiment named, as its records hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from estbench.report.analysis.frames import Frames, done, get_nested

# In the order in which they are shown.
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class OwnMetric:
    """One number that was recorded along training: a metric, or one of several that a metric returns.

    Attributes
    ----------
    name
        Its name in the curves: ``sigma``, or ``errors/mse`` of several.
    label, unit, summary
        Words for axes, tables and captions.
    better
        Which numbers are better, ``higher`` or ``lower``; empty if neither is.
    splits
        The splits that it was measured on, the test split first.
    """

    name: str
    label: str
    unit: str
    summary: str
    better: str
    splits: tuple[str, ...]

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def direction(self) -> str:
        """The sentence that says which numbers are better."""
        return f"{self.better.capitalize()} is better." if self.better else "Neither direction is better by itself."


def find_metrics(frames: Frames) -> list[OwnMetric]:
    """Return the metrics that the records describe and have values of, in the order of their names."""
    described: dict[str, Any] = {}
    for record in frames.results.records.values():
        metrics = get_nested(record, "metrics")
        if isinstance(metrics, dict):  # a record may hold anything
            described = {**metrics, **described}
    curves = frames.results.curves
    names = sorted(name for name in map(str, curves["metric"].unique()) if name.partition("/")[0] in described)
    measured = {name: set(curves.loc[curves["metric"] == name, "split"]) for name in names}
    return [_of_name(name, described[name.partition("/")[0]], measured[name]) for name in names]


def _of_name(name: str, facts: Any, measured: set[str]) -> OwnMetric:
    own, _, key = name.partition("/")
    words = {fact: str(get_nested(facts, fact, default="")) for fact in ("label", "unit", "summary", "better")}
    label = words["label"] or own
    return OwnMetric(
        name=name,
        label=f"{label}: {key}" if key else label,
        unit=words["unit"],
        summary=words["summary"],
        better=words["better"] if words["better"] in {"higher", "lower"} else "",
        splits=tuple(split for split in SPLITS if split in measured),
    )


def last_values(frames: Frames, metric: str, split: str) -> pd.DataFrame:
    """Return the values of a metric at the last step of the finished runs that have one there."""
    curves = done(frames.curves(metric, split))
    ends = frames.cells[["folder", "step"]].rename(columns={"step": "end"})
    merged = curves.merge(ends, on="folder", how="left")
    return merged[merged["step"] == merged["end"]]
