"""``estbench pack``."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.argument("folders", type=click.Path(), nargs=-1, required=True, metavar="DIR [DIR2...]")
@click.option("-o", "--out", type=click.Path(), metavar="FILE", help="The archive; DIR/records.zip if not given.")
@click.option("--pictures", is_flag=True, help="Pack the pictures of trained models, too.")
def command(folders: tuple[str, ...], out: str | None, *, pictures: bool) -> None:
    """Pack the records of a results folder into one file, to publish it: everything that a report needs.

    Several folders are merged. Runs that are done or diverged are packed; checkpoints never are. The same
    records give the same bytes. Every command that reads results takes the file in place of a folder.
    """
    from pathlib import Path

    from estbench.cli.console import say
    from estbench.report.analysis.wording import count_noun
    from estbench.store.pack import PUBLISHED, pack

    packed = pack(folders, out or Path(folders[0]) / PUBLISHED, pictures=pictures)
    missing = f"; {count_noun(packed.missing, 'planned run')} without a result" if packed.missing else ""
    say(f"{packed.path}: {count_noun(packed.runs, 'run')}, {packed.size:,} bytes{missing}")
    say(f"sha256: {packed.digest}")
