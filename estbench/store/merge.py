"""Merge results folders: in memory, or into a new folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estbench.errors import EstbenchError
from estbench.experiment.plan import PROTOCOL, identity
from estbench.experiment.sweep import merge_sweeps
from estbench.guarded import GuardedPath
from estbench.store.folder import ResultsFolder
from estbench.store.homes import Home, rounds_of
from estbench.store.plan_file import check_folder_name
from estbench.store.results import Results, load
from estbench.store.tables import CURVES, GRADIENTS

# The parts of a record that must agree. Clocks, dates and the environment may differ.
OUTCOME = ("status", "step", "examples", "evaluations")
WALL_CLOCK = {"seconds"}
# Conflicts that an error lists.
MOST_LISTED = 20


def load_many(paths: Sequence[str | Path]) -> Results:
    """Read results (folders, archives) and merge them; the name, the question and the order are those of the first."""
    return merge([load(path) for path in paths])


def merge(parts: Sequence[Results]) -> Results:
    """Return results with the cells of all parts; the files of each cell stay where they are.

    A cell of several parts counts once, if its outcome and its numbers agree (seconds may differ). Raises
    ``EstbenchError`` if they do not agree, if the protocols differ, and if one label names two estimators or problems.
    Timed rounds keep their session and machine.
    """
    if not parts:
        raise EstbenchError("there are no results to merge; name at least one results folder")
    first, *others = parts
    if not others:
        return first
    cells: dict[str, dict[str, Any]] = {}
    sources: dict[str, Source] = {}
    conflicts: list[str] = []
    for part in parts:
        _check_protocol(first, part)
        for cell in part.plan["cells"]:
            cells.setdefault(cell["key"], cell)
            if cell["folder"] in part.records:
                source = Source(part, cell["folder"])
                if source is not sources.setdefault(cell["key"], source):
                    conflicts += _describe_conflict(cell, sources[cell["key"]], source)
    if conflicts:
        raise EstbenchError("; ".join(_limit_number(conflicts)) + "; keep one of them")
    _check_labels(cells, parts)
    by_folder = {cells[key]["folder"]: source for key, source in sources.items()}
    return Results(
        first.path,
        {**first.plan, "experiment": _experiment(parts), "cells": list(cells.values())},
        {folder: source.part.records[source.folder] for folder, source in by_folder.items()},
        {folder: source.home for folder, source in by_folder.items()},
        tuple(dict.fromkeys(path for part in parts for path in (part.path, *part.others) if path != first.path)),
        {folder: source.part.origin(source.folder) for folder, source in by_folder.items()},
    )


def _experiment(parts: Sequence[Results]) -> dict[str, Any]:
    """Return the first experiment, with the swept values of all."""
    experiment: dict[str, Any] = parts[0].plan["experiment"]
    sweep = merge_sweeps(part.sweep for part in parts)
    return {**experiment, "sweep": sweep} if sweep else experiment


class Source(NamedTuple):
    """A recorded cell in one of several results."""

    part: Results
    folder: str

    @property
    def home(self) -> Home:
        """Where its tables are."""
        return self.part.home(self.folder)


def _check_protocol(first: Results, other: Results) -> None:
    """Raise ``EstbenchError`` that names the differing settings if two parts have different protocols."""
    if not first.plan["cells"] or not other.plan["cells"]:
        return
    one, two = (dict(_settings(part)) for part in (first, other))
    differing = [
        f"{name} is {one.get(name)} in '{first.path}' and {two.get(name)} in '{other.path}'"
        for name in {**one, **two}
        if one.get(name) != two.get(name)
    ]
    if differing:
        raise EstbenchError(
            f"results of two protocols cannot be merged: {'; '.join(differing)}; report each folder by itself"
        )


def _settings(part: Results) -> Iterator[tuple[str, Any]]:
    """Yield the settings that all cells share; the value of one that is swept is "swept"."""
    for kind in PROTOCOL:
        for name, value in part.plan["cells"][0][kind].items():
            yield f"{kind}.{name}", "swept" if kind == "training" and name in part.swept else value


def _describe_conflict(cell: dict[str, Any], first: Source, other: Source) -> list[str]:
    """Return one line if two records of a cell differ in more than the time they took; else none."""
    difference = find_difference(first, other)
    folders = f"'{first.home}' and '{other.home}'"
    name = f"cell {cell['key'][:8]} ({cell['estimator']['label']}, seed {cell['seed']})"
    return [f"{name} is in two folders with different content: {folders}: {difference}"] if difference else []


def find_difference(first: Source, other: Source) -> str:
    """Return the first thing in which two records of a cell differ, the time they took aside; empty if none does."""
    records = [source.part.records[source.folder] for source in (first, other)]
    for name in OUTCOME:
        one, two = (record.get(name) for record in records)
        if one != two:
            return f"{name} is {one} in the first and {two} in the second"
    for file, schema in (("curves.parquet", CURVES), ("gradients.parquet", GRADIENTS)):
        columns = [name for name in schema.names if name not in WALL_CLOCK]
        tables = [source.home.table(file, schema).select(columns).to_pandas() for source in (first, other)]
        if not tables[0].equals(tables[1]):  # a NaN equals a NaN here
            differing = [name for name in columns if not tables[0][name].equals(tables[1][name])]
            return f"{file.removesuffix('.parquet')} differ in {', '.join(differing)}"
    return ""


def _limit_number(conflicts: list[str]) -> list[str]:
    more = len(conflicts) - MOST_LISTED
    return conflicts if more <= 0 else [*conflicts[:MOST_LISTED], f"and {more} more"]


def _check_labels(cells: dict[str, dict[str, Any]], parts: Sequence[Results]) -> None:
    """Raise ``EstbenchError`` if a label has two meanings in two folders, as after a new version of an estimator."""
    home = {cell["key"]: part.path for part in reversed(parts) for cell in part.plan["cells"]}
    first: dict[tuple[str, str], tuple[Any, str]] = {}
    for key, cell in cells.items():
        for kind in ("estimator", "problem"):
            meaning = identity(cell[kind])
            earlier, earlier_key = first.setdefault((kind, cell[kind]["label"]), (meaning, key))
            differing = [name for name in meaning if meaning[name] != earlier[name]]
            if differing and home[earlier_key] != home[key]:
                name = differing[0]
                raise EstbenchError(
                    f"{kind} '{cell[kind]['label']}' is not the same in both folders: its {name} is {earlier[name]} in "
                    f"'{home[earlier_key]}' and {meaning[name]} in '{home[key]}'; run one of them again"
                )


def join(paths: Sequence[str | Path], out: str | Path) -> Results:
    """Write the merged plan, cells and timings of results into ``out``, a new folder, and load it.

    A single archive is unpacked so.

    Records are copied as they are; reports are not copied. The folder is written next to ``out`` and renamed when it is
    complete. Raises ``EstbenchError`` as ``merge`` does, and if ``out`` exists and is not an empty folder.
    """
    merged, out = load_many(paths), Path(out)
    target = GuardedPath(out.parent) / out.name
    if target.exists() and (not target.is_dir() or target.names()):
        raise EstbenchError(f"'{out}' exists already; name a new folder with -o")
    partial = target.parent / f".{target.name}.partial"
    try:
        if partial.exists():  # left by a merge that was killed
            partial.remove()
        write_results(merged, ResultsFolder(partial))
        partial.rename(target)
    finally:
        partial.remove()
    return load(out)


def write_results(results: Results, folder: ResultsFolder) -> None:
    """Write cells, timings and at last the plan of results into a folder; a cell that is there already is kept."""
    folder.create()
    there = folder.present()
    for name in results.records:
        if name not in there:
            results.home(name).copy(folder.cells / check_folder_name(name))
    folder.append_throughput(_collect_rounds(results))
    head = {name: results.plan[name] for name in ("protocol", "experiment")}
    folder.write_plan(head, results.plan["cells"])


def _collect_rounds(merged: Results) -> list[dict[str, Any]]:
    """Return all timed rounds; one that is in several folders counts once."""
    tables = [rounds_of(path) for path in (merged.path, *merged.others)]
    rows = [row for table in tables if table is not None for row in table.to_pylist()]
    return list({tuple(row.values()): row for row in rows}.values())
