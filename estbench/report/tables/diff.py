"""Changes between two results, as a table and in sentences: for a terminal, or a comment on a pull request."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from estbench.report.analysis.changes import (
    BETTER,
    MARGINS,
    NO_RATIO,
    NOT_JUDGED,
    NOTHING_SHOWN,
    REGRESSION,
    SAME,
    TOO_FEW,
    VERDICTS,
    WORSE,
    Change,
    ChangeMargins,
    Diff,
)
from estbench.report.analysis.frames import Frames
from estbench.report.analysis.paired import LEVEL
from estbench.report.analysis.run_pairs import RunPair
from estbench.report.analysis.wording import (
    MINUS,
    NOTHING,
    TIMES,
    count_noun,
    fixed,
    format_difference,
    format_list,
    format_p,
    format_percent,
    significant,
)
from estbench.report.tables.base import Table, escape_markdown
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, problem_field
from estbench.stats import CONFIDENCE, FEWEST_FOR_AN_INTERVAL
from estbench.store import Results

COUNTED = {
    REGRESSION: "worse by more than the margin",
    WORSE: "worse, and not shown to be beyond the margin",
    BETTER: "better",
    NOTHING_SHOWN: "without a change that is shown",
    TOO_FEW: f"with fewer than {FEWEST_FOR_AN_INTERVAL} pairs, which tell nothing",
    NO_RATIO: "of a variance of zero, which has no ratio",
    NOT_JUDGED: "not judged, without a margin",
    SAME: "with the same numbers",
}


def build_diff_table(diff: Diff, new: Results) -> Table:
    """Return one row per change, regressions first; people do not see the rows with the same numbers, CSV has all."""
    fields: list[Field[Change]] = [
        ESTIMATOR,
        problem_field(Frames(new)),
        Field("setting", "setting" if any(change.setting for change in diff.changes) else "", head=True),
        Field("quantity", "quantity", head=True, short="quantity"),
        Field("kind"),
        Field("verdict", "verdict", text=True, short="verdict", keep=True),
        Field("change", f"NEW {MINUS} OLD or NEW / OLD", entry=_write_change, short="change"),
        Field("p", "p, corrected", value=_p_of, write=_write_p),
        Field("old", "OLD", entry=lambda change: _write_side(change, "old")),
        Field("new", "NEW", entry=lambda change: _write_side(change, "new")),
        *(Field(name) for name in ("p_change", "p_regression", "unit")),
    ]
    rows = sorted(diff.changes, key=lambda change: VERDICTS.index(change.verdict))
    return build_table(
        "diff",
        "Changes from OLD to NEW",
        describe_rule(diff),
        fields,
        [change for change in rows if change.verdict != SAME],
        csv_first=("problem", "estimator", "setting", "quantity"),
        csv_rows=rows,
    )


def describe_rule(diff: Diff) -> str:
    """Return the statistical rule of a diff, with its margins and its number of tests."""
    tests = sum(not math.isnan(change.p_change) for change in diff.changes)
    return (
        f"Bounds: NEW {MINUS} OLD in nats per example, paired by seed. Variances: the ratio NEW / OLD ({TIMES}), "
        "paired by seed, on the log scale. Seconds per step: the ratio of rounds that one machine timed, not paired "
        f"(Welch). In brackets: the {format_percent(CONFIDENCE)} t interval of one change. p is corrected (Holm) for "
        f"all {tests} changes that were tested, for any change (two-sided) and for a regression (one-sided, worse than "
        f"the margin). The chance of one or more false alarms is at most {format_percent(LEVEL)} for each of the two. "
        f"Margins: {describe_margins(diff.margins)}."
    )


def describe_margins(margins: ChangeMargins) -> str:
    """Return the margins in words."""
    parts = [
        f"{kind} {margin:g} nats" if kind == "bound" else f"{kind} {TIMES}{margin:g}"
        for kind in MARGINS
        if not math.isnan(margin := getattr(margins, kind))
    ]
    return ", ".join(parts) + (
        "; seconds are not judged without one, because two sessions of a machine differ by more than their rounds say"
        if math.isnan(margins.seconds)
        else ""
    )


def describe_outcome(diff: Diff) -> list[str]:
    """Return the answer in sentences: whether anything is worse, how many changes there are, and which runs ended."""
    counts = Counter(change.verdict for change in diff.changes)
    broken, pairs = diff.runs.broken(), list(diff.runs)
    done = sum(pair.is_done for pair in pairs)
    worst = [f"{counts[REGRESSION]} {COUNTED[REGRESSION]}"] if counts[REGRESSION] else []
    worst += [f"{count_noun(len(broken), 'run')} that diverged or failed"] if broken else []
    lines = [f"Regression: {format_list(worst)}." if worst else "No regression is shown."]
    if done and diff.same_runs == done:
        lines.append(f"All {count_noun(done, 'paired run')} have the same numbers, bit for bit.")
    else:
        lines.append(f"{diff.same_runs} of {count_noun(done, 'paired run')} have the same numbers, bit for bit.")
        told = [f"{counts[verdict]} {words}" for verdict, words in COUNTED.items() if counts[verdict]]
        lines.append(f"{count_noun(len(diff.changes), 'comparison')}: {', '.join(told)}.")
    lines += [f"Done in OLD, {pair.new.status} in NEW: {_name(pair)}." for pair in broken]
    lines += [f"{pair.old.status.capitalize()} in OLD, done in NEW: {_name(pair)}." for pair in diff.runs.mended()]
    return lines


def describe_rest(diff: Diff) -> list[str]:
    """Return what has no partner, what cannot be compared, and what differs beside the numbers."""
    return [*diff.runs.only_old, *diff.runs.only_new, *diff.runs.unpaired, *diff.notes]


def write_markdown(diff: Diff, table: Table) -> str:
    """Return the whole diff as Markdown: the answer, the table, and the rest folded away."""
    answer, *others = describe_outcome(diff)
    parts = [f"### {escape_markdown(answer)}", "\n".join(f"- {escape_markdown(line)}" for line in others)]
    if table.rows:
        parts.append(table.to_markdown().rstrip())
    if rest := describe_rest(diff):
        listed = "\n".join(f"- {escape_markdown(line)}" for line in rest)
        parts.append(f"<details><summary>Not compared, and what else differs</summary>\n\n{listed}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _write_change(change: Change) -> Entry:
    if change.kind == "bound":
        return format_interval(change.change, format_difference, change.unit)
    entry = format_interval(change.change, significant, change.unit)
    return entry if math.isnan(change.change.value) else replace(entry, text=f"{TIMES}{entry.text}")


def _write_side(change: Change, side: str) -> Entry:
    interval = getattr(change, side)
    entry = format_interval(interval, fixed if change.kind == "bound" else significant, change.unit)
    return Entry(entry.text, n=interval.n, unit=change.unit)


def _p_of(change: Change) -> float:
    """Return the p-value that the verdict is by."""
    return change.p_regression if change.verdict == REGRESSION else change.p_change


def _write_p(p: float) -> str:
    return NOTHING if math.isnan(p) else format_p(p).removeprefix("p ").removeprefix("= ")


def _name(pair: RunPair) -> str:
    cell = pair.new.cell
    return f"{cell.estimator.label} on {cell.problem.label}, seed {cell.seed}"
