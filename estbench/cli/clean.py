"""``estbench clean``."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from estbench.cli.layout import Column
from estbench.errors import EstbenchError

FILES = (Column("bytes", "number", keep=True), Column("path", keep=True), Column("reason"))


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(folder: str, *, yes: bool) -> None:
    """Remove files that killed runs left behind, and unfinished runs that are in no plan.

    Finished runs stay, planned or not. So do checkpoints that a run can resume from, and whatever changed in the
    last ten minutes.
    """
    from estbench.cli.console import print_rows, say
    from estbench.store import ResultsFolder
    from estbench.store.leftovers import leftovers, remove
    from estbench.store.lock import one_run

    removable = leftovers(ResultsFolder(folder))
    if not removable:
        say("nothing to remove")
        return
    with one_run(Path(folder), lambda line: say(line, stderr=True)):
        rows = [(f"{each.size:,}", str(each.path), each.why) for each in removable]
        print_rows(f"removable files in {folder}", FILES, rows)
        if not (yes or _confirm(len(removable))):
            say("nothing removed")
            return
        for each in removable:
            remove(each)
    say(f"removed {len(removable)}, {sum(each.size for each in removable):,} bytes")


def _confirm(count: int) -> bool:
    try:
        return click.confirm(f"Remove {'it' if count == 1 else f'these {count}'}?", err=True)
    except click.Abort:
        raise EstbenchError("nothing removed: there is no terminal to answer on; use --yes") from None
