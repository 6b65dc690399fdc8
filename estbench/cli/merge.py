"""``estbench merge``."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.argument("folders", type=click.Path(), nargs=-1, required=True, metavar="DIR DIR2 [DIR3...]")
@click.option("-o", "--out", required=True, type=click.Path(), metavar="DIR", help="The new results folder.")
def command(folders: tuple[str, ...], out: str) -> None:
    """Merge results folders (of several machines, for example) into a new one; they stay as they are.

    A run that several folders hold counts once if they agree on its status and numbers. Runs that they do
    not agree on are all listed, and nothing is written; different protocols are refused. Timings keep
    their machine.
    """
    from estbench.cli.console import say
    from estbench.report.analysis.frames import Frames
    from estbench.report.analysis.notices import status_line
    from estbench.store.merge import join

    merged = join(folders, out)
    say(f"{merged.path}: {status_line(Frames(merged))}")
