"""``estbench report``."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.argument("folder", type=click.Path(), metavar="DIR")
def command(folder: str) -> None:
    """Rebuild tables, figures and report.html of a results folder, from its records alone."""
    from estbench import report
    from estbench.cli.console import console, print_table
    from estbench.store import load

    page = report.build(folder)
    print_table(report.summary(load(folder)))
    console().print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
