"""Records that a crash of the machine cut short: as good as none."""

from __future__ import annotations

import json

from estbench.experiment import Cell
from estbench.store.folder import ResultsFolder


def is_cut_short(folder: ResultsFolder, cell: Cell) -> bool:
    """Whether a cell has a folder whose record is missing or is no JSON.

    A record that is whole but of a newer schema, or whose status is unknown, is not for this version to replace.
    """
    home = folder.cells / cell.folder
    if not home.is_dir():
        return False
    try:
        json.loads((home / "cell.json").read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return True
    return False
