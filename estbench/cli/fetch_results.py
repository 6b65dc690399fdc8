"""``estbench fetch-results``."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.argument("source", metavar="NAME|FILE|ADDRESS")
@click.option("-o", "--out", type=click.Path(), metavar="DIR", help="The new results folder.  [default: results/NAME]")
@click.option("--sha256", default="", metavar="DIGEST", help="The digest that the archive must have.")
@click.option("--from", "folder", type=click.Path(), metavar="DIR", help="A folder with archives, for a NAME.")
def command(source: str, out: str | None, sha256: str, folder: str | None) -> None:
    """Get published results, check them by their digest, and unpack them into a new results folder.

    NAME is a reference experiment of this version of estbench. Then `estbench run NAME -e my-est --plugin
    FILE` computes only the runs of my-est, and reports them beside all others.
    """
    from estbench.cli.console import say
    from estbench.execution.reference_results import fetch_results
    from estbench.report.analysis.frames import Frames
    from estbench.report.analysis.notices import status_line

    results = fetch_results(source, out, sha256=sha256, folder=folder)
    say(f"{results.path}: {status_line(Frames(results))}")
