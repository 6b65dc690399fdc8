"""A plan's cells on disk: what they share is written once, so that 100,000 of them are read in a second."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from estbench.errors import EstbenchError
from estbench.experiment.plan import PROTOCOL, cell_from_record

SHARED = ("estimators", "problems", "protocols")
# What a cell's folder may be called: nothing that leads out of the results folder, nothing hidden.
FOLDER = re.compile(r"[a-z0-9_][a-z0-9._-]{0,240}")
KEY = re.compile(r"[0-9a-f]{64}")


def factored(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Cells as tables of what they share and, for each, its places in them."""
    tables: dict[str, _Table] = {name: _Table() for name in SHARED}
    rows = []
    for cell in cells:
        row = {
            "estimator": tables["estimators"].place(cell["estimator"]),
            "problem": tables["problems"].place(cell["problem"]),
            "protocol": tables["protocols"].place(*(cell[part] for part in PROTOCOL)),
            "seed": cell["seed"],
            "key": cell["key"],
            "folder": cell["folder"],
        }
        rows.append(row)
    protocols = [dict(zip(PROTOCOL, parts, strict=True)) for parts in tables["protocols"].entries]
    single = {name: [entry for (entry,) in tables[name].entries] for name in ("estimators", "problems")}
    return {**single, "protocols": protocols, "cells": rows}


def expanded(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells of a plan, each spelled out; raise ``EstbenchError`` or what damaged data raises."""
    estimators, problems, protocols = (document[name] for name in SHARED)
    _check_shared(estimators, problems, protocols)
    cells, known = [], set()
    for row in document["cells"]:
        folder, key, seed = checked_folder(row["folder"]), row["key"], row["seed"]
        places = row["estimator"], row["problem"], row["protocol"]
        if not (KEY.fullmatch(key) and type(seed) is int and seed >= 0 and all(_is_place(place) for place in places)):
            raise ValueError(f"cell '{folder}' is damaged")
        known |= {key, folder}
        cells.append(
            {
                "key": key,
                "folder": folder,
                "estimator": estimators[places[0]],
                "problem": problems[places[1]],
                "seed": seed,
                **protocols[places[2]],
            }
        )
    if len(known) != 2 * len(cells):
        raise ValueError("a cell is there twice")
    return cells


def written(document: Mapping[str, Any]) -> str:
    """A plan as JSON with one line for each cell."""
    head = json.dumps({name: value for name, value in document.items() if name != "cells"}, indent=2, allow_nan=False)
    rows = ",\n".join(f"    {json.dumps(row)}" for row in document["cells"])
    return f'{head.removesuffix("}").rstrip()},\n  "cells": [\n{rows}\n  ]\n}}\n'


def checked_folder(name: Any) -> str:
    """Refuse a name of a cell's folder that would lead out of the results folder."""
    if not isinstance(name, str) or not FOLDER.fullmatch(name):
        raise EstbenchError(f"'{name}' is no name of a cell's folder; the results folder was tampered with")
    return name


class _Table:
    """Distinct entries in the order of their first appearance; equal ones are told by content, the same by identity."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self._by_identity: dict[tuple[int, ...], int] = {}
        self._by_content: dict[str, int] = {}
        self._kept: list[tuple[Any, ...]] = []

    def place(self, *parts: Any) -> int:
        identity = tuple(map(id, parts))
        if identity not in self._by_identity:
            self._kept.append(parts)  # alive, so that no other object gets its identity
            content = json.dumps(parts, sort_keys=True)
            if content not in self._by_content:
                self._by_content[content] = len(self.entries)
                self.entries.append(parts)
            self._by_identity[identity] = self._by_content[content]
        return self._by_identity[identity]


def _check_shared(estimators: Any, problems: Any, protocols: Any) -> None:
    """Check everything that cells share, once: each entry in a cell with the first of the others."""
    longest = max(len(estimators), len(problems), len(protocols))
    if longest == 0:
        return
    for at in range(longest):
        estimator, problem, protocol = (table[min(at, len(table) - 1)] for table in (estimators, problems, protocols))
        cell_from_record({**protocol, "estimator": estimator, "problem": problem, "seed": 0})


def _is_place(place: Any) -> bool:
    return type(place) is int and place >= 0
