"""The papers to cite for the estimators in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from estbench.references import BIBTEX
from estbench.report.analysis import frames

if TYPE_CHECKING:
    from estbench.store import Results


class Citations(NamedTuple):
    """BibTeX entries by key, and the estimators for which there is none."""

    entries: dict[str, str]
    lacking: list[str]


def citations(results: Results) -> Citations:
    """What the estimators' records refer to, each paper once."""
    keys = {label: str(frames.facts(results, label).get("reference") or "") for label in frames.estimators(results)}
    known = sorted({key for key in keys.values() if key in BIBTEX})
    lacking = [f"{label} ({key})" if key else label for label, key in keys.items() if key not in BIBTEX]
    return Citations({key: BIBTEX[key] for key in known}, lacking)
