"""``estbench log``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estbench.store import ResultsFolder

# Digits of a hash that people see.
DIGITS = 8
CURRENT, STALE, UNKNOWN, ASIDE = "current", "stale", "not known here", "not in the plan"
NOTES = {
    STALE: "the source of the estimator has changed since: --force runs it again",
    UNKNOWN: "no such estimator here: name its file with --plugin",
    ASIDE: "of another protocol, or of earlier code; kept on disk, and in no table",
}


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@plugin_option
@json_option
def command(folder: str, plugins: tuple[str, ...], *, as_json: bool) -> None:
    """Show when the runs of a results folder came, from which commit and source, and which are stale.

    One line for all runs of an estimator that agree in these. A run is stale if the source of its estimator
    has changed since it was made.
    """
    from estbench.cli.console import print_json, print_rows, say
    from estbench.cli.layout import Column
    from estbench.plugins import load_plugin
    from estbench.store import ResultsFolder

    for plugin in plugins:
        load_plugin(plugin)
    entries = sorted(_entries(ResultsFolder(folder)), key=lambda entry: (entry["finished"], entry["folder"]))
    if as_json:
        print_json({"folder": folder, "runs": entries})
        return
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[name] for name in ("estimator", "problem", *SHOWN)), []).append(entry)
    columns = [Column("runs", "number"), Column("first"), Column("last"), Column("estimator", "name")]
    columns += [Column("problem", "name", rank=1), *(Column(name, rank=rank) for name, rank in SHOWN.items())]
    rows = [
        [str(len(group)), group[0]["finished"][:16], group[-1]["finished"][:16], *of_group]
        for of_group, group in groups.items()
    ]
    print_rows(f"runs of {folder}", columns, rows, group="problem", elsewhere="--json")
    for state in dict.fromkeys(entry["state"] for entry in entries):
        if state in NOTES:
            say(f"{state}: {NOTES[state]}")


# What runs of one line agree in, with the rank of its column.
SHOWN = {"commit": 2, "source": 3, "machine": 4, "state": 0}


def _entries(folder: ResultsFolder) -> Iterator[dict[str, Any]]:
    """Yield one entry for each record on disk, in the plan or not."""
    from estbench.guarded import DamagedError
    from estbench.store.plan_file import FOLDER

    planned = {cell["folder"] for cell in folder.read_plan()["cells"]}
    for name in sorted(filter(FOLDER.fullmatch, folder.present())):
        try:
            record = folder.read_record(name)
        except DamagedError:
            continue
        if record is None:
            continue
        cell, environment = record.get("cell", {}), record.get("environment", {})
        source = str((record.get("certificate") or {}).get("fingerprint", ""))
        label = str(cell.get("estimator", {}).get("label", ""))
        commit = str(environment.get("commit") or "")[:DIGITS]
        yield {
            "finished": str(record.get("finished", "")),
            "estimator": label,
            "problem": str(cell.get("problem", {}).get("label", "")),
            "seed": cell.get("seed"),
            "status": record["status"],
            "commit": f"{commit} and changes" if environment.get("uncommitted") else commit,
            "source": source[:DIGITS],
            "machine": str(environment.get("machine", "")),
            "state": _state(label, source) if name in planned else ASIDE,
            "folder": name,
        }


def _state(label: str, source: str) -> str:
    """Say whether a source is that of the estimator as it is installed here."""
    from estbench.certify.record import certified_parts
    from estbench.errors import EstbenchError
    from estbench.estimators import ESTIMATORS
    from estbench.source import fingerprint

    try:
        here = "+".join(fingerprint(ESTIMATORS.entry(part)) for part in certified_parts(label))
    except EstbenchError:
        return UNKNOWN
    return CURRENT if here == source else STALE
