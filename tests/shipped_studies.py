"""The studies that lie beside the shipped cards, loaded as ``estbench reproduce`` loads them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from estbench.plugins import load_plugin

FOLDER = Path(__file__).parents[1] / "experiments" / "reproductions"


def load(name: str) -> ModuleType:
    """The module of a study, by the name of its file."""
    return load_plugin(FOLDER / f"{name}.py")
