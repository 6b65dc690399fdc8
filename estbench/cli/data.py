"""``estbench data``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option
from estbench.errors import EstbenchError

DATASETS_COLUMNS = (Column("name", keep=True), Column("card"), Column("files", keep=True))
FILES_COLUMNS = (Column("file", keep=True), Column("status", keep=True), Column("digest"))

if TYPE_CHECKING:
    from estbench.datasets.files import DataFile


@click.group()
def command() -> None:
    """List, fetch and verify the files of datasets.

    Files lie in $ESTBENCH_DATA_DIR, or in the user's cache folder if that is not set. No other command downloads.
    """


@command.command("list")
@json_option
def list_datasets(*, as_json: bool) -> None:
    """List every dataset, its identity, and whether its files are present."""
    from estbench.cli.console import print_json, print_rows, say
    from estbench.datasets import DATASETS, data_id
    from estbench.datasets.files import DATA_DIR, data_folder

    entries: list[dict[str, Any]] = []
    for name in DATASETS.names():
        states = {file.name: file.state() for file in _files([name])}
        entries.append({"name": name, "card": data_id(name), "files": states})
    if as_json:
        print_json({"folder": str(data_folder()), "datasets": entries})
        return
    rows = [(entry["name"], entry["card"], _summarise(entry["files"])) for entry in entries]
    print_rows("datasets", DATASETS_COLUMNS, rows)
    say(f"folder: {data_folder()} (set {DATA_DIR} to choose another)")


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--offline", is_flag=True, help="Download nothing; list what is missing.")
def fetch(names: tuple[str, ...], *, offline: bool) -> None:
    """Download the missing files of some datasets, or of all, and check them.

    The sources of a file are tried in turn, until a download has the right digest.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from estbench.cli.console import console, say
    from estbench.datasets.fetch import fetch as fetch_file

    failed = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=not console(stderr=True).is_terminal) as bars:
        for file in _files(names):
            bar = bars.add_task(file.name, total=file.size)
            try:
                fresh = fetch_file(
                    file,
                    offline=offline,
                    progress=lambda _, done, total, bar=bar: bars.update(bar, completed=done, total=total or None),  # type: ignore[misc]
                )
            except EstbenchError as error:
                failed.append(str(error))
                continue
            say(f"{'fetched' if fresh else 'already present'}: {file.path}")
    if failed:
        raise EstbenchError(" ".join(failed))


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> int:
    """Check the files of some datasets, or of all, by their digests; exit code 1 if one is missing or damaged."""
    from estbench.cli.console import print_rows, say
    from estbench.datasets.files import data_folder

    states = {file.name: (file.state(), file.digest.split(":")[0]) for file in _files(names)}
    rows = [(name, *state) for name, state in states.items()]
    print_rows(f"files in {data_folder()}", FILES_COLUMNS, rows)
    bad = sum(state != "verified" for state, _ in states.values())
    say(f"{len(states) - bad} of {len(states)} verified")
    return 1 if bad else 0


def _files(names: Iterable[str]) -> list[DataFile]:
    """Return the files of the named datasets, or of all."""
    from estbench.datasets import DATASETS
    from estbench.datasets import info as dataset_info
    from estbench.datasets.files import files

    return files(dict.fromkeys(file for name in names or DATASETS.names() for file in dataset_info(name).files))


def _summarise(states: dict[str, str]) -> str:
    if not states:
        return "none needed"
    counts = {state: list(states.values()).count(state) for state in states.values()}
    return ", ".join(f"{count} {state}" for state, count in counts.items())
