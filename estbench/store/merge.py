"""Several results folders as one: the same cell counts once, and what contradicts itself is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from estbench.errors import EstbenchError
from estbench.store.results import Results, load
from estbench.store.tables import CURVES, GRADIENTS, read_arrow

# What a cell's record says of its outcome; clocks, dates and the environment are how it came about.
OUTCOME = ("status", "step", "examples", "evaluations")
WALL_CLOCK = {"seconds"}
PROTOCOL = ("training", "evaluation", "probe")


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
    cells = {cell["key"]: cell for cell in first.plan["cells"]}
    origins = {key: first for key in cells if _finished(first, cells[key])}
    for part in others:
        _same_protocol(first, part)
        for cell in part.plan["cells"]:
            key = cell["key"]
            cells.setdefault(key, cell)
            if _finished(part, cell):
                if key in origins:
                    _same_content(cells[key], origins[key], part)
                origins.setdefault(key, part)
    _one_meaning(cells, parts)
    held = {cells[key]["folder"]: origin for key, origin in origins.items()}
    return Results(
        first.path,
        {**first.plan, "cells": list(cells.values())},
        {folder: origin.records[folder] for folder, origin in held.items()},
        {folder: origin.homes.get(folder, origin.path) for folder, origin in held.items()},
        tuple(dict.fromkeys(path for part in parts for path in (part.path, *part.others) if path != first.path)),
    )


def _finished(part: Results, cell: dict[str, Any]) -> bool:
    """Whether a cell has a record."""
    return cell["folder"] in part.records


def _same_protocol(first: Results, other: Results) -> None:
    """Refuse to put numbers of different protocols into one table; say what differs."""
    if not first.plan["cells"] or not other.plan["cells"]:
        return
    ours, theirs = (dict(_settings(part.plan["cells"][0])) for part in (first, other))
    differing = [
        f"{name} is {ours.get(name)} in '{first.path}' and {theirs.get(name)} in '{other.path}'"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise EstbenchError(f"two protocols do not go into one table: {'; '.join(differing)}; report them one by one")


def _settings(cell: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in PROTOCOL:
        for name, value in cell[part].items():
            yield f"{part}.{name}", value


def _same_content(cell: dict[str, Any], first: Results, other: Results) -> None:
    """Refuse two records of one cell that differ in more than the time they took."""
    folder = cell["folder"]
    for name in OUTCOME:
        ours, theirs = (part.records[folder].get(name) for part in (first, other))
        if ours != theirs:
            raise _conflict(cell, first, other, f"{name} is {ours} in the first and {theirs} in the second")
    for file, schema in (("curves.parquet", CURVES), ("gradients.parquet", GRADIENTS)):
        columns = [name for name in schema.names if name not in WALL_CLOCK]
        ours, theirs = (
            read_arrow(part.home(folder) / file, schema).select(columns).to_pandas() for part in (first, other)
        )
        if not ours.equals(theirs):  # a NaN equals a NaN here
            differing = [name for name in columns if not ours[name].equals(theirs[name])]
            raise _conflict(cell, first, other, f"{file.removesuffix('.parquet')} differ in {', '.join(differing)}")


def _conflict(cell: dict[str, Any], first: Results, other: Results, what: str) -> EstbenchError:
    return EstbenchError(
        f"cell {cell['key'][:8]} ({cell['estimator']['label']}, seed {cell['seed']}) is in two folders with different "
        f"content: '{first.home(cell['folder'])}' and '{other.home(cell['folder'])}': {what}; keep one of them"
    )


def _one_meaning(cells: dict[str, dict[str, Any]], parts: Sequence[Results]) -> None:
    """Refuse labels that mean different things in different folders, as after a new version of an estimator."""
    home = {cell["key"]: part.path for part in reversed(parts) for cell in part.plan["cells"]}
    known: dict[tuple[str, str], tuple[Any, str]] = {}
    for key, cell in cells.items():
        for kind in ("estimator", "problem"):
            meaning = {name: cell[kind].get(name) for name in ("name", "options", "version")}
            earlier, where = known.setdefault((kind, cell[kind]["label"]), (meaning, key))
            differing = [name for name in meaning if meaning[name] != earlier[name]]
            if differing and home[where] != home[key]:
                name = differing[0]
                raise EstbenchError(
                    f"{kind} '{cell[kind]['label']}' is not the same in both folders: its {name} is {earlier[name]} in "
                    f"'{home[where]}' and {meaning[name]} in '{home[key]}'; run one of them anew"
                )
