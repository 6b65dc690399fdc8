"""``estbench diff``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.options import json_option
from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estbench.report.analysis.changes import Diff

# The columns of the table, from the most important one on.
ORDER = ("verdict", "NEW \N{MINUS SIGN} OLD", "p,", "OLD", "NEW")


def _split(_context: click.Context, _option: click.Parameter, written: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in written]
    if any(not sign for _, sign, _ in pairs):
        raise click.BadParameter("takes QUANTITY=NUMBER: bound=0.5, variance=1.2, seconds=1.25")
    return {name.strip(): value.strip() for name, _, value in pairs}


@click.command()
@click.argument("old", type=click.Path(), metavar="OLD")
@click.argument("new", type=click.Path(), metavar="NEW")
@click.option(
    "--margin",
    "margins",
    multiple=True,
    callback=_split,
    metavar="QUANTITY=NUMBER",
    help="How much worse is still accepted: nats of a `bound` (default 0.1), a ratio of a `variance` (default 1.1) or "
    "of `seconds` (by default, they are not judged). May be repeated.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "csv"]),
    default="text",
    show_default=True,
    help="A table for the terminal, Markdown for a comment on a pull request, or all raw numbers.",
)
@json_option
def command(old: str, new: str, margins: dict[str, str], form: str, *, as_json: bool) -> int:
    """Compare two results of the same runs (folders or archives): what changed beyond noise.

    OLD and NEW are of two commits, two versions or two machines. Runs of the same problem, estimator, seed and
    protocol are compared: final bounds, gradient variances at own and at shared weights, and seconds per step if
    one machine timed both. The exit code is 1 if anything is worse by more than its margin, or if a run that
    was done diverged or failed.
    """
    from estbench.cli.console import print_file, print_json, print_table, say
    from estbench.report.analysis.changes import find_changes, parse_margins
    from estbench.report.tables.diff import build_diff_table, describe_outcome, describe_rest, write_markdown
    from estbench.store import load

    if as_json and form != "text":
        raise EstbenchError("--json and --format exclude each other; give one of them")
    accepted = parse_margins(margins)
    results = load(old), load(new)
    diff = find_changes(*results, accepted)
    table = build_diff_table(diff, results[1])
    if as_json:
        print_json({"old": old, "new": new, **_as_plain(diff), "changes": _as_records(table.data.to_dict("records"))})
    elif form == "md":
        print_file(write_markdown(diff, table))
    elif form == "csv":
        print_file(table.to_csv())
    else:
        for line in describe_outcome(diff):
            say(line)
        if table.rows:
            say("")
            print_table(table, ORDER, group="problem", elsewhere="--format csv")
        for line in describe_rest(diff):
            say(line)
    return int(diff.has_regressed)


def _as_plain(diff: Diff) -> dict[str, Any]:
    runs = diff.runs
    sides = {"only_old": runs.only_old, "only_new": runs.only_new, "unpaired": runs.unpaired, "notes": diff.notes}
    counted = {"paired": len(list(runs)), "done": sum(pair.is_done for pair in runs), "same": diff.same_runs}
    broken = [
        {
            "estimator": pair.new.cell.estimator.label,
            "problem": pair.new.cell.problem.label,
            "seed": pair.new.cell.seed,
            "status": pair.new.status,
        }
        for pair in runs.broken()
    ]
    margins = {kind: None if math.isnan(margin) else margin for kind, margin in diff.margins._asdict().items()}
    return {"regression": diff.has_regressed, "margins": margins, "runs": counted, "broken": broken, **sides}


def _as_records(records: Iterable[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Return rows as JSON has them: a number that is not finite is null."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in records
    ]
