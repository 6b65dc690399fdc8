"""The design's section 4: imports run downward only, and what must be light is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import estbench

PACKAGE = Path(estbench.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
GROUND = {
    "experiment",
    "guarded",
    "store",
    "stats",
    "errors",
    "plugins",
    "limits",
    "processes",
    "references",
    "registry",
    "source",
    "syntax",
    "toml_files",
    "validation",
    "variant",
    "visible",
}
# From top to bottom; parts of one floor may not import each other, except where the design names an order.
FLOORS = [
    {"cli"},
    {"reproduction"},
    {"conformance", "report", "execution"},
    {"training"},
    {"measure"},
    {"estimators"},
    {"problems"},
    {"datasets"},
    GROUND,
]
LEVEL = {part: level for level, floor in enumerate(FLOORS) for part in floor}
# The package itself: its face, and `python -m estbench`.
FACE = {"__init__", "__main__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """The parts of estbench that a module imports anywhere, even inside a function; not those for types alone."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("estbench.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "estbench":
            found |= {alias.name for alias in node.names if alias.name in LEVEL}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("estbench."):
            found.add((node.module or "").split(".")[1])
    return found


def names_of(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


def test_every_module_has_its_place():
    assert {part_of(path) for path in MODULES} <= set(LEVEL) | FACE


@pytest.mark.parametrize(
    "path", [path for path in MODULES if part_of(path) not in FACE], ids=lambda path: names_of([path])[0]
)
def test_imports_run_downward(path):
    own = part_of(path)
    others = imported(ast.parse(path.read_text("utf-8"))) - {own}
    upward = {other for other in others if LEVEL[other] < LEVEL[own]}
    sideward = {other for other in others if LEVEL[other] == LEVEL[own]} if own not in GROUND else set()
    assert not upward, f"{own} may not import {upward}"
    assert not sideward, f"{own} may not import {sideward}, which is beside it"


def test_no_import_is_relative():
    relative = [
        path
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert names_of(relative) == []


def test_no_module_is_too_long():
    assert names_of([path for path in MODULES if len(path.read_text("utf-8").splitlines()) > 400]) == []


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def loaded_after(statement: str, environment: dict[str, str]) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a statement."""
    script = f"import sys\n{statement}\nprint(*(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_estbench_is_light(environment):
    assert not {"torch", "pandas", "numpy", "pydantic"} & loaded_after("import estbench", environment)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]], ids=" ".join)
def test_help_is_light(environment, arguments):
    statement = f"from estbench.cli import _exit_code; _exit_code({arguments})"
    assert not {"torch", "pandas", "numpy", "pydantic"} & loaded_after(statement, environment)


def test_the_ground_and_the_report_need_no_torch(environment):
    needed = [*sorted(GROUND), "report"]
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if part_of(path) in needed
    ]
    assert "torch" not in loaded_after(f"import {', '.join(modules)}", environment)


def test_a_report_is_rebuilt_on_a_machine_without_torch(tiny, tmp_path, environment):
    estbench.run(tiny, out=tmp_path / "r")
    statement = f"""
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTorch())
from estbench.cli import _exit_code
assert _exit_code(["report", {str(tmp_path / "r")!r}]) == 0
assert _exit_code(["status", {str(tmp_path / "r")!r}]) == 0
"""
    loaded_after(statement, environment)
    assert (tmp_path / "r" / "report" / "report.html").is_file()
