"""``estbench data``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option, plugin_option
from estbench.errors import EstbenchError

DATASETS_COLUMNS = (Column("name", keep=True), Column("card"), Column("files", keep=True))
FILES_COLUMNS = (Column("file", keep=True), Column("status", keep=True), Column("digest"))
TITLES = {"left_out": "left out", "notes": "note", "memory_mb": "memory (MB)"}
BINARISATIONS = {
    "dynamic": "dynamic (a Bernoulli likelihood sees a new draw of 0 or 1 for each pixel at each access)",
    "static": "static (all pixels are 0 or 1)",
}
# Lines of a list that are shown.
MOST_LINES = 10

if TYPE_CHECKING:
    from estbench.datasets.files import DataFile


@click.group()
def command() -> None:
    """List, fetch and verify the files of datasets, and look at files of your own.

    Files lie in $ESTBENCH_DATA_DIR, or in the user's cache folder if that is not set. No other command downloads.
    A file of your own is written file:PATH in place of a dataset's name.
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
    bars = Progress(*columns, console=console(stderr=True))
    with bars if bars.console.is_terminal else contextlib.nullcontext():  # at its end, an old rich prints a line
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


@command.command()
@click.argument("dataset", metavar="FILE_OR_NAME")
@plugin_option
@json_option
def check(dataset: str, plugins: tuple[str, ...], *, as_json: bool) -> None:
    """Show how a file of your own is read as a dataset, or what a registered dataset holds.

    These are read: .npz and .npy files of NumPy, tables (.csv, .csv.gz; a row for each image), and folders of PNG
    files. Splits that a file does not name are made from its training images.
    """
    from estbench.cli.console import print_json, say
    from estbench.datasets import DATASETS
    from estbench.datasets.own_files import PREFIX, is_own_file
    from estbench.plugins import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    if not is_own_file(dataset) and dataset not in DATASETS.names() and (Path(dataset).exists() or "." in dataset):
        dataset = f"{PREFIX}{dataset}"
    facts = _describe_own(dataset) if is_own_file(dataset) else _describe_registered(dataset)
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        for line in _write(value):
            say(f"{TITLES.get(name, name)}: {line}")


def _describe_own(name: str) -> dict[str, Any]:
    """Return how a file is read, as plain data."""
    from estbench.datasets.own_files import read

    own = read(name)
    return {
        "dataset": name,
        "kind": own.kind,
        "found": list(own.found),
        "left_out": list(own.left_out),
        "notes": list(own.notes),
        "type": own.type,
        "range": [own.low, own.high],
        "conversion": own.conversion,
        "split": own.how,
        **_describe_loaded(name),
    }


def _describe_registered(name: str) -> dict[str, Any]:
    from estbench.datasets import info

    files = list(info(name).files)
    return {"dataset": name, "kind": "a registered dataset", "found": files, **_describe_loaded(name)}


def _describe_loaded(name: str) -> dict[str, Any]:
    """Return the facts of any dataset after its conversion, and the next command."""
    from estbench.datasets import data_id, info, load
    from estbench.datasets.checks import SPLITS
    from estbench.variant import Variant

    data = load(name)
    splits = {split: getattr(data, split) for split in SPLITS}
    problem = shlex.quote(str(Variant("vae", {"dataset": name})))
    return {
        "images": {split: len(images) for split, images in splits.items()},
        "shape": list(data.shape),
        "binarisation": info(name).binarisation,
        "memory_mb": round(sum(images.nbytes for images in splits.values()) / 1e6, 3),
        "card": data_id(name),
        "next": f"estbench run --problem {problem} -e reparam",
    }


def _write(value: Any) -> list[str]:
    """Return the lines that show a fact; those of a long list are cut."""
    if isinstance(value, dict):
        return [", ".join(f"{count:,} {key}" for key, count in value.items())]
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return [(" to " if isinstance(value[0], float) else " x ").join(f"{each:g}" for each in value)]
    if isinstance(value, list):
        return [*value[:MOST_LINES], *([f"and {len(value) - MOST_LINES:,} more"] if len(value) > MOST_LINES else [])]
    return [BINARISATIONS.get(str(value), str(value))]


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
