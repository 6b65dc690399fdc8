"""The cells of ``experiment.json``: one line for each, checked when they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from estbench.errors import EstbenchError
from estbench.experiment.plan import cell_from_record

# Names of a cell's folder: nothing that leads out of the results folder, nothing hidden.
FOLDER = re.compile(r"[a-z0-9_][a-z0-9._-]{0,240}")
KEY = re.compile(r"[0-9a-f]{64}")
PARTS = ("key", "folder", "estimator", "problem", "seed", "training", "evaluation", "probe")


def format_plan(document: Mapping[str, Any]) -> str:
    """Return a plan as JSON, with each cell on a line of its own."""
    head = json.dumps({name: value for name, value in document.items() if name != "cells"}, indent=2, allow_nan=False)
    rows = ",\n".join(f"    {json.dumps(cell)}" for cell in document["cells"])
    return f'{head.removesuffix("}").rstrip()},\n  "cells": [\n{rows}\n  ]\n}}\n'


def read_cells(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a plan; raise ``EstbenchError``, or what damaged data raises, if one is no cell."""
    cells = []
    names: set[str] = set()
    for recorded in document["cells"]:
        cell = {name: recorded[name] for name in PARTS}
        check_folder_name(cell["folder"])
        if not KEY.fullmatch(cell["key"]):
            raise ValueError(f"cell '{cell['folder']}' has no valid key")
        cell_from_record(cell)
        names |= {cell["key"], cell["folder"]}
        cells.append(cell)
    if len(names) != 2 * len(cells):
        raise ValueError("two cells have the same key or the same folder")
    return cells


def check_folder_name(name: Any) -> str:
    """Return the name of a cell's folder; raise ``EstbenchError`` if it could lead out of the results folder."""
    if not isinstance(name, str) or not FOLDER.fullmatch(name):
        raise EstbenchError(f"'{name}' is not a valid name of a cell's folder; somebody changed the results folder")
    return name
