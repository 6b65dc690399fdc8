"""The pages of experiments: those of one protocol are one experiment, whoever ran a part of it."""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.limits import TEXT_BYTES
from estbench.plugins import load_plugin
from estbench.processes import end_with_parent, started_without_script
from estbench.report import build
from estbench.report.analysis import Analysis
from estbench.report.site.appearances import SlugBook
from estbench.report.site.entries import Entry, make_entry, read_records
from estbench.report.site.finding import has_records, name_place
from estbench.report.site.tables_only import read_tables
from estbench.store import ResultsFolder, load, merge
from estbench.store.archive import Archive

if TYPE_CHECKING:
    from estbench.store import Results

# The errors of data that estbench did not write.
STRANGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error, RecursionError)
WORKER = "SpawnProcess"  # the name that multiprocessing gives to the processes of a pool
REPORT = "report.html"
# A page in the folder of its experiment leads back to the first page.
HEADER = b"<header>\n"
WAY_BACK = b'<header>\n<p class="kicker"><a href="../../index.html">All experiments</a></p>\n'


@dataclass(frozen=True)
class Task:
    """One experiment to make: where it lies, and where its page goes."""

    paths: tuple[GuardedPath, ...]
    slug: str
    folder: GuardedPath
    figures: bool
    trusted: bool


class Made(NamedTuple):
    """An experiment that was made, if it could be, and the paths that were left out of it, with the reason."""

    entry: Entry | None
    skipped: list[tuple[GuardedPath, str]]


def group_by_experiment(paths: Sequence[GuardedPath]) -> tuple[list[list[GuardedPath]], list[tuple[GuardedPath, str]]]:
    """Return the paths of each experiment together, and those that cannot be read, with the reason.

    Folders and archives with records are of one experiment if its name, its question and its protocol are the same. A
    folder with a report only is one by itself.
    """
    groups: dict[Any, list[GuardedPath]] = {}
    skipped = []
    for path in paths:
        try:
            groups.setdefault(_identify(path) if has_records(path) else path, []).append(path)
        except (EstbenchError, OSError) as error:
            skipped.append((path, str(error)))
        except STRANGE as error:
            skipped.append((path, _strange(error)))
    return [*groups.values()], skipped


def plan_tasks(
    groups: Sequence[Sequence[GuardedPath]], folder: GuardedPath, *, figures: bool, trusted: Sequence[str | Path]
) -> list[Task]:
    """Return what is to be made, each with an address of its own; pages of reports are copied below ``trusted``."""
    roots = {Path(path).resolve() for path in trusted}
    slugs = SlugBook()
    tasks = []
    for paths in groups:
        name = name_place(paths[0]).removesuffix(".zip")
        slug = slugs.take(name.removesuffix("/records"))
        tasks.append(Task(tuple(paths), slug, folder / "experiments" / slug, figures, paths[0].root.resolve() in roots))
    return tasks


def make_all(tasks: Sequence[Task], jobs: int, plugins: Sequence[str] = ()) -> Iterator[Made]:
    """Make experiments in their order; with several ``jobs``, so many at a time in processes of their own.

    Each process loads the ``plugins``.
    """
    if jobs < 2 or len(tasks) < 2:
        yield from map(make, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(min(jobs, len(tasks)), spawn, _start_worker, (tuple(plugins),))
    with started_without_script(WORKER), workers as pool:
        yield from pool.map(make, tasks)


def _start_worker(plugins: tuple[str, ...]) -> None:
    end_with_parent()
    for plugin in plugins:
        load_plugin(plugin)


def make(task: Task) -> Made:
    """Write the page of an experiment, and return what the other pages say of it."""
    skipped: list[tuple[GuardedPath, str]] = []
    places = [name_place(path) for path in task.paths]
    try:
        if not has_records(task.paths[0]):
            entry = make_entry(read_tables(task.paths[0]), places, _copy_page(task))
            return Made(entry, skipped)
        results, kept = _merge(task.paths, skipped)
        if results is None:
            return Made(None, skipped)
        analysis = Analysis(results)
        entry = make_entry(read_records(analysis), kept, f"experiments/{task.slug}/{REPORT}")
        _write_page(analysis, task)
    except (EstbenchError, OSError) as error:
        return Made(None, [*skipped, (task.paths[0], str(error))])
    except STRANGE as error:
        return Made(None, [*skipped, (task.paths[0], _strange(error))])
    return Made(entry, skipped)


def _merge(paths: Sequence[GuardedPath], skipped: list[tuple[GuardedPath, str]]) -> tuple[Results | None, list[str]]:
    """Return the results of all paths, and the places of those that are in it; one that contradicts is left out."""
    parts: list[tuple[GuardedPath, Results]] = []
    for path in paths:
        try:
            parts.append((path, load(path)))
        except (EstbenchError, OSError) as error:
            skipped.append((path, str(error)))
    try:
        return merge([results for _, results in parts]), [name_place(path) for path, _ in parts]
    except EstbenchError:
        pass
    merged: Results | None = None
    places = []
    for path, results in parts:
        try:
            merged = results if merged is None else merge([merged, results])
            places.append(name_place(path))
        except EstbenchError as error:
            skipped.append((path, str(error)))
    return merged, places


def _write_page(analysis: Analysis, task: Task) -> None:
    folder: Any = task.folder  # a guarded path stays one
    build(analysis, ["html"], out=folder, figures=task.figures, warn=lambda _message: None)
    page = task.folder / REPORT
    page.write_bytes(page.read_bytes().replace(HEADER, WAY_BACK, 1))


def _copy_page(task: Task) -> str:
    """Copy the page of a report without records, if that was asked for, and return its address; else ""."""
    page = task.paths[0] / "report" / REPORT
    if not task.trusted or not page.is_file():
        return ""
    task.folder.mkdir()
    (task.folder / REPORT).write_bytes(page.read_bytes(TEXT_BYTES).replace(HEADER, WAY_BACK, 1))
    return f"experiments/{task.slug}/{REPORT}"


def _identify(path: GuardedPath) -> tuple[str, str, str]:
    """Return the name, the question and the protocol of an experiment, which is all that is read of it."""
    plan = ResultsFolder(path).read_plan() if path.is_dir() else Archive(path).plan
    experiment = dict(plan["experiment"])
    return str(experiment.get("name", "")), str(experiment.get("question", "")), str(plan.get("protocol", ""))


def _strange(error: Exception) -> str:
    return f"its files hold something that estbench does not write ({type(error).__name__})"
