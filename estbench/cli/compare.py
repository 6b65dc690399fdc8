"""``estbench compare``."""

from __future__ import annotations

import math
from typing import Any

import rich_click as click

from estbench.cli.options import json_option


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--target", type=float, metavar="NATS", help="The test bound to reach; by default the best that both reached."
)
@json_option
def command(folder: str, first: str, second: str, target: float | None, *, as_json: bool) -> None:
    """Compare two estimators of a results folder: a verdict in words, and paired differences with intervals."""
    from estbench.cli.console import print_json, print_table, say
    from estbench.errors import EstbenchError
    from estbench.report.analysis import Analysis
    from estbench.report.analysis.conclusions import compare_two
    from estbench.report.tables.compare import compare, find_labels
    from estbench.store import load

    if target is not None and not math.isfinite(target):
        raise EstbenchError(f"--target takes a number of nats, not {target}")
    analysis = Analysis(load(folder))
    first, second = find_labels(analysis, first, second)
    table = compare(analysis, first, second, target)
    conclusions = compare_two(analysis, analysis.runs, first, second, target)
    if as_json:
        verdicts = [{**vars(conclusion), "evidence": _plain(conclusion.evidence)} for conclusion in conclusions]
        answer = {"folder": folder, "first": first, "second": second, "comparisons": table.data.to_dict("records")}
        print_json(_plain({**answer, "verdicts": verdicts}))
        return
    for conclusion in conclusions:
        say(conclusion.text)
    say("")
    order = (table.columns[-1].title, first, second)
    print_table(table, order, group="problem", elsewhere="--json")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinities become null, NumPy's numbers become Python's."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
