"""Which runs came from which folder or archive, and what is known of how they were made."""

from __future__ import annotations

from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.origins import Origin
from estbench.report.analysis.wording import NOTHING
from estbench.report.tables.base import Table
from estbench.report.tables.entry import Entry
from estbench.report.tables.fields import Field, build_table
from estbench.report.tables.registry import register_table

# Digits of a hash that people see; the CSV file has all.
DIGITS = 12
PASSED = "passed"


@register_table(section="provenance")
def origins(analysis: Analysis) -> Table:
    """Return one row for each source of runs, code and machine; none for one folder whose runs were made alike."""
    found = analysis.origins
    rows = found if len(found) > 1 or any(origin.digest for origin in found) else []
    caption = (
        "A run that several of them hold counts once, for the first. Bounds, variances and evaluations of different "
        "rows are compared; seconds are compared within one machine only. Certificates are for the source that made "
        "the runs of the row. Those that came with a folder or an archive are a stranger's word until `estbench check` "
        "has passed here."
    )
    return build_table("origins", "Where the runs came from", caption, FIELDS, rows, short_caption="Sources of runs.")


def _fact(name: str, title: str, write: Any = str) -> Field[Origin]:
    return Field(
        name, title, lambda row: row.environment.get(name, ""), lambda value: write(value) or NOTHING, text=True
    )


def _write_commit(row: Origin) -> Entry:
    commit = str(row.environment.get("commit", ""))[:DIGITS] or NOTHING
    return Entry(commit, "with changes that are not committed" if row.environment.get("uncommitted") else "")


def _write_certificates(row: Origin) -> Entry:
    passed = sum(words == PASSED for words in row.certificates.values())
    others = [f"{label}: {words}" for label, words in row.certificates.items() if words != PASSED]
    return Entry(f"{passed} of {len(row.certificates)} passed", "; ".join(others))


FIELDS: list[Field[Origin]] = [
    Field("source", "folder or archive", head=True, short="source"),
    Field("sha256", "SHA-256", lambda row: row.digest, entry=lambda row: row.digest[:DIGITS] or NOTHING, text=True),
    Field("runs", "runs", best="high", short="runs"),
    Field("estimators", "estimators", lambda row: ", ".join(row.estimators), text=True, short="estimators"),
    Field("commit", "commit", lambda row: row.environment.get("commit", ""), entry=_write_commit, text=True),
    Field("uncommitted", value=lambda row: row.environment.get("uncommitted", "")),
    _fact("estbench", "estbench"),
    _fact("torch", "torch"),
    _fact("machine", "machine"),
    _fact("device_name", "device"),
    Field(
        "certificates",
        "certificates",
        lambda row: "; ".join(f"{label}: {words}" for label, words in row.certificates.items()),
        entry=_write_certificates,
        text=True,
        short="certificates",
    ),
]
