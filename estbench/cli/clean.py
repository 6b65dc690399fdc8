"""``estbench clean``."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from estbench.errors import EstbenchError


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(folder: str, *, yes: bool) -> None:
    """Remove what killed runs left behind, and what belongs to no plan and was not finished.

    Finished cells stay, planned or not; so does what a run can go on from, and what was changed in the last
    ten minutes.
    """
    from estbench.cli.console import print_rows, say
    from estbench.store import ResultsFolder
    from estbench.store.leftovers import leftovers, remove
    from estbench.store.lock import one_run

    found = leftovers(ResultsFolder(folder))
    if not found:
        say("nothing to remove")
        return
    with one_run(Path(folder), lambda line: say(line, stderr=True)):
        rows = [(str(each.path), each.why, f"{each.size:,}") for each in found]
        print_rows(f"left over in {folder}", ("path", "it", "bytes"), rows)
        if not (yes or _agreed(len(found))):
            say("nothing was removed")
            return
        for each in found:
            remove(each)
    say(f"removed {len(found)}, {sum(each.size for each in found):,} bytes")


def _agreed(count: int) -> bool:
    try:
        return click.confirm(f"Remove {'it' if count == 1 else f'these {count}'}?", err=True)
    except click.Abort:
        raise EstbenchError("nothing was removed, for nobody answered; say y, or use --yes") from None
