"""Measurements that were asked for and are in no table, each with its reason, grouped over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from estbench.report.analysis.frames import TRAJECTORY, Frames
from estbench.report.analysis.wording import count_noun
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


# Different remarks in one list; the others are only counted.
MOST_REMARKS = 10


def omissions(frames: Frames) -> list[str]:
    """Return sentences that name the finished estimators without a gradient or a speed, and all remarks of cells."""
    planned = frames.cells
    done = [label for label in frames.estimators if _is_done(planned, label)]
    lines = []
    if frames.setting("probe", "replicates", default=0):
        own = frames.results.gradients[frames.results.gradients["trajectory"] == TRAJECTORY]
        lines += _absent(done, own[own["statistic"] == "variance"], "value", "gradient variance")
    if len(frames.results.throughput):
        lines += _absent(done, frames.results.throughput, "seconds", "throughput")
    return [*lines, *remarks(frames.results.records.values())]


def remarks(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return the remarks of cells on their measurements, each once with the number of its cells."""
    cells: dict[str, int] = {}
    for record in records:
        noted = record.get("remarks")
        texts = {_text(remark) for remark in noted if isinstance(remark, dict)} if isinstance(noted, list) else ()
        for text in sorted(texts):
            cells[text] = cells.get(text, 0) + 1
    lines = [f"{text} ({count_noun(count, 'cell')})." for text, count in cells.items()]
    more = [f"{len(lines) - MOST_REMARKS} further remarks are in the records."] if len(lines) > MOST_REMARKS else []
    return lines[:MOST_REMARKS] + more


def _is_done(planned: pd.DataFrame, label: str) -> bool:
    return bool((planned["estimator"].eq(label) & planned["status"].eq(Status.DONE)).any())


def _absent(labels: list[str], frame: pd.DataFrame, column: str, measurement: str) -> list[str]:
    """Return sentences that name the estimators without a finite number in a table of measurements."""
    finite = set(frame.loc[np.isfinite(frame[column].astype(float)), "estimator"])
    measured = set(frame["estimator"])
    nowhere = [label for label in labels if label not in measured]
    broken = [label for label in labels if label in measured - finite]
    lines = [f"No {measurement} was recorded of {', '.join(nowhere)}: not in its table."] if nowhere else []
    return lines + ([f"No {measurement} of {', '.join(broken)} is finite: not in its table."] if broken else [])


def _text(remark: dict[str, Any]) -> str:
    return f"{remark.get('measurement', 'measurement')}: {remark.get('message', '')}".strip(" .:")
