"""``estbench data``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.options import json_option
from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from estbench.datasets.files import DataFile


@click.group()
def command() -> None:
    """List, fetch and verify the files of datasets.

    They belong under $ESTBENCH_DATA_DIR, or in the user's cache where that is not set. Nothing else downloads.
    """


@command.command("list")
@json_option
def list_datasets(*, as_json: bool) -> None:
    """Every dataset, its card, and whether its files are there."""
    from estbench.cli.console import print_json, print_rows, say
    from estbench.datasets import DATASETS, data_id
    from estbench.datasets.files import DATA_DIR, data_folder

    found: list[dict[str, Any]] = []
    for name in DATASETS.names():
        states = {file.name: file.state() for file in _files([name])}
        found.append({"name": name, "card": data_id(name), "files": states})
    if as_json:
        print_json({"folder": str(data_folder()), "datasets": found})
        return
    rows = [(entry["name"], entry["card"], _summed(entry["files"])) for entry in found]
    print_rows("datasets", ("name", "card", "files"), rows)
    say(f"folder: {data_folder()} ({DATA_DIR} chooses another)")


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--offline", is_flag=True, help="Download nothing; say what is missing.")
def fetch(names: tuple[str, ...], *, offline: bool) -> None:
    """Download what is missing of some datasets, or of all, and check it.

    The sources of a file are tried in turn until one gives what its digest says.
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
            say(f"{'fetched' if fresh else 'there'}: {file.path}")
    if failed:
        raise EstbenchError(" ".join(failed))


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> int:
    """Check the files of some datasets, or of all, by their digests; exit code 1 if one is missing or damaged."""
    from estbench.cli.console import print_rows, say
    from estbench.datasets.files import data_folder

    states = {file.name: (file.state(), file.digest.split(":")[0]) for file in _files(names)}
    print_rows(f"files in {data_folder()}", ("file", "it is", "by"), [(name, *state) for name, state in states.items()])
    bad = sum(state != "verified" for state, _ in states.values())
    say(f"{len(states) - bad} of {len(states)} verified")
    return 1 if bad else 0


def _files(names: Iterable[str]) -> list[DataFile]:
    """The files of the named datasets, or of all."""
    from estbench.datasets import DATASETS
    from estbench.datasets import info as dataset_info
    from estbench.datasets.files import files

    return files(dict.fromkeys(file for name in names or DATASETS.names() for file in dataset_info(name).files))


def _summed(states: dict[str, str]) -> str:
    if not states:
        return "none needed"
    counts = {state: list(states.values()).count(state) for state in states.values()}
    return ", ".join(f"{count} {state}" for state, count in counts.items())
