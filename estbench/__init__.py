"""Which gradient estimator should I use? Identical VAEs, measured variance, convergence and cost, in one report.

``import estbench`` is light: torch and pandas are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from estbench.errors import EstbenchError, EstbenchWarning

if TYPE_CHECKING:
    from estbench import datasets, estimators, measure, problems, report, stats
    from estbench._version import __version__
    from estbench.execution import run
    from estbench.store import load

__all__ = [
    "EstbenchError",
    "EstbenchWarning",
    "__version__",
    "datasets",
    "estimators",
    "load",
    "measure",
    "problems",
    "report",
    "run",
    "stats",
]

_MODULES = {"datasets", "estimators", "measure", "problems", "report", "stats"}
_FUNCTIONS = {"load": "estbench.store", "run": "estbench.execution"}
# Modules that add to what these functions do or return, from above: figures of results, progress in a notebook.
_ADDITIONS = {"load": ["estbench.report.plots"], "run": ["estbench.report.plots", "estbench.cli.notebook"]}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # to look it up takes a quarter of the time of ``estbench --help``
        return importlib.import_module("estbench._version").__version__
    if name in _MODULES:
        return importlib.import_module(f"estbench.{name}")
    if name in _FUNCTIONS:
        for module in _ADDITIONS[name]:
            importlib.import_module(module)
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'estbench' has no attribute '{name}'")
