"""Results folders put together: read as one, merged into a new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from estbench.errors import EstbenchError
from estbench.experiment.plan import PROTOCOL, identity
from estbench.experiment.sweep import joined
from estbench.guarded import GuardedPath
from estbench.limits import COPY_BYTES
from estbench.store.folder import ResultsFolder
from estbench.store.plans import checked_folder
from estbench.store.results import Results, load
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, read_arrow, read_rows

# What a cell's record says of its outcome; clocks, dates and the environment are how it came about.
OUTCOME = ("status", "step", "examples", "evaluations")
WALL_CLOCK = {"seconds"}
# Conflicts that are spelled out in an error.
MOST_LISTED = 20


def load_many(paths: Sequence[str | Path]) -> Results:
    """Read results folders and merge them; the first gives the name, the question and the order."""
    return merge([load(path) for path in paths])


def merge(parts: Sequence[Results]) -> Results:
    """Results with the cells of all parts, in memory; the files of each cell stay where they are.

    A cell that several parts hold counts once, if its outcome and its numbers agree (seconds need not). Raises
    ``EstbenchError`` where they do not, where two protocols would meet in one table, and where one label names two
    estimators or problems. Timed rounds keep their session and machine.
    """
    if not parts:
        raise EstbenchError("there are no results to merge; name at least one results folder")
    first, *others = parts
    if not others:
        return first
    cells: dict[str, dict[str, Any]] = {}
    origins: dict[str, _Held] = {}
    conflicts: list[str] = []
    for part in parts:
        _same_protocol(first, part)
        for cell in part.plan["cells"]:
            cells.setdefault(cell["key"], cell)
            if cell["folder"] in part.records:
                held = _Held(part, cell["folder"])
                if held is not origins.setdefault(cell["key"], held):
                    conflicts += _differences(cell, origins[cell["key"]], held)
    if conflicts:
        raise EstbenchError("; ".join(_shortened(conflicts)) + "; keep one of them")
    _one_meaning(cells, parts)
    places = {cells[key]["folder"]: held for key, held in origins.items()}
    return Results(
        first.path,
        {**first.plan, "experiment": _experiment(parts), "cells": list(cells.values())},
        {folder: held.part.records[held.folder] for folder, held in places.items()},
        {folder: held.home for folder, held in places.items()},
        tuple(dict.fromkeys(path for part in parts for path in (part.path, *part.others) if path != first.path)),
    )


def _experiment(parts: Sequence[Results]) -> dict[str, Any]:
    """The first experiment, with the values of all sweeps."""
    experiment: dict[str, Any] = parts[0].plan["experiment"]
    sweep = joined(part.sweep for part in parts)
    return {**experiment, "sweep": sweep} if sweep else experiment


class _Held(NamedTuple):
    """A finished cell in one of the parts."""

    part: Results
    folder: str

    @property
    def home(self) -> GuardedPath:
        return self.part.home(self.folder)


def _same_protocol(first: Results, other: Results) -> None:
    """Refuse to put numbers of different protocols into one table; say what differs."""
    if not first.plan["cells"] or not other.plan["cells"]:
        return
    ours, theirs = (dict(_settings(part)) for part in (first, other))
    differing = [
        f"{name} is {ours.get(name)} in '{first.path}' and {theirs.get(name)} in '{other.path}'"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise EstbenchError(f"two protocols do not go into one table: {'; '.join(differing)}; report them one by one")


def _settings(part: Results) -> Iterator[tuple[str, Any]]:
    """The settings that all cells share; one that is swept is called so."""
    for kind in PROTOCOL:
        for name, value in part.plan["cells"][0][kind].items():
            yield f"{kind}.{name}", "swept" if kind == "training" and name in part.swept else value


def _differences(cell: dict[str, Any], first: _Held, other: _Held) -> list[str]:
    """Where two records of one cell differ in more than the time they took: nothing, or one line."""
    what = _different(first, other)
    where = f"'{first.home}' and '{other.home}'"
    who = f"cell {cell['key'][:8]} ({cell['estimator']['label']}, seed {cell['seed']})"
    return [f"{who} is in two folders with different content: {where}: {what}"] if what else []


def _different(first: _Held, other: _Held) -> str:
    ours, theirs = (held.part.records[held.folder] for held in (first, other))
    for name in OUTCOME:
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name)} in the first and {theirs.get(name)} in the second"
    for file, schema in (("curves.parquet", CURVES), ("gradients.parquet", GRADIENTS)):
        columns = [name for name in schema.names if name not in WALL_CLOCK]
        one, two = (read_arrow(held.home / file, schema).select(columns).to_pandas() for held in (first, other))
        if not one.equals(two):  # a NaN equals a NaN here
            differing = [name for name in columns if not one[name].equals(two[name])]
            return f"{file.removesuffix('.parquet')} differ in {', '.join(differing)}"
    return ""


def _shortened(conflicts: list[str]) -> list[str]:
    more = len(conflicts) - MOST_LISTED
    return conflicts if more <= 0 else [*conflicts[:MOST_LISTED], f"and {more} more"]


def _one_meaning(cells: dict[str, dict[str, Any]], parts: Sequence[Results]) -> None:
    """Refuse labels that mean different things in different folders, as after a new version of an estimator."""
    home = {cell["key"]: part.path for part in reversed(parts) for cell in part.plan["cells"]}
    known: dict[tuple[str, str], tuple[Any, str]] = {}
    for key, cell in cells.items():
        for kind in ("estimator", "problem"):
            meaning = identity(cell[kind])
            earlier, where = known.setdefault((kind, cell[kind]["label"]), (meaning, key))
            differing = [name for name in meaning if meaning[name] != earlier[name]]
            if differing and home[where] != home[key]:
                name = differing[0]
                raise EstbenchError(
                    f"{kind} '{cell[kind]['label']}' is not the same in both folders: its {name} is {earlier[name]} in "
                    f"'{home[where]}' and {meaning[name]} in '{home[key]}'; run one of them anew"
                )


def join(paths: Sequence[str | Path], out: str | Path) -> Results:
    """Write the merged plan, cells and timings of results folders into ``out``, a new folder, and load it.

    Records are copied as they are; reports are not copied. The folder is made beside ``out`` and renamed into place
    when it is whole. Raises ``EstbenchError`` for what ``merge`` refuses, and if there is something at ``out``.
    """
    merged, out = load_many(paths), Path(out)
    target = GuardedPath(out.parent) / out.name
    if target.exists() and (not target.is_dir() or target.names()):
        raise EstbenchError(f"'{out}' is there already; name a new folder with -o")
    partial = target.parent / f".{target.name}.partial"
    try:
        if partial.exists():  # of a merge that was killed
            partial.remove()
        folder = ResultsFolder(partial)
        folder.create()
        for name in merged.records:
            _copy_cell(merged.home(name), folder.cells / checked_folder(name))
        folder.append_throughput(_rounds(merged))
        head = {name: merged.plan[name] for name in ("protocol", "experiment")}
        folder.write_plan(head, merged.plan["cells"])
        partial.rename(target)
    finally:
        partial.remove()
    return load(out)


def _rounds(merged: Results) -> list[dict[str, Any]]:
    """All timed rounds; one that several folders hold counts once."""
    files = [ResultsFolder(path).throughput_file for path in (merged.path, *merged.others)]
    rows = [row for file in files if file.exists() for row in read_rows(file, THROUGHPUT)]
    return list({tuple(row.values()): row for row in rows}.values())


def _copy_cell(source: GuardedPath, target: GuardedPath) -> None:
    """Copy a cell's files; a link among them could be to any file of this machine, and is refused."""
    target.mkdir()
    for file in source.iterdir():
        if not file.is_dir():
            file.copy(target / file.name, COPY_BYTES)
