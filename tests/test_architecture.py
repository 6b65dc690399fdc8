"""The design's section 4: imports run downward only, and what must be light is light."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import estbench

PACKAGE = Path(estbench.__file__).parent
# Experiments lie in an installed package too, with studies that are no modules of it.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_experiments" not in path.parts)
# The record of a certificate is read by the report and written into the records of runs, so it lies with the ground.
RECORD = "certify.record"
GROUND = {
    "_version",
    RECORD,
    "errors",
    "experiment",
    "failures",
    "guarded",
    "limits",
    "options",
    "plugins",
    "processes",
    "randomness",
    "references",
    "registry",
    "source",
    "stats",
    "store",
    "syntax",
    "toml_files",
    "variant",
    "visible",
}
# From top to bottom; parts of one floor do not import each other, except on the ground.
FLOORS = [
    {"cli"},
    {"reproduce"},
    {"certify", "report", "execution"},
    {"training"},
    {"measure"},
    {"estimators"},
    {"problems"},
    {"latents", "datasets"},
    {"devices"},
    GROUND,
]
LEVEL = {part: level for level, floor in enumerate(FLOORS) for part in floor}
# The package itself: its face, and `python -m estbench`.
FACE = {"__init__", "__main__"}


def module_of(path: Path) -> str:
    """The name of a module without ``estbench.``; a package's is that of its folder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


NAMES = {module_of(path) for path in MODULES}


def part_of(module: str) -> str:
    return module if module == RECORD else module.partition(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module, which is parsed once."""
    return ast.parse(path.read_text("utf-8"))


def imported(path: Path) -> set[str]:
    """The modules of estbench that a module imports anywhere, even inside a function or for types only."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("estbench.") for alias in node.names if alias.name.startswith("estbench")}
        elif isinstance(node, ast.ImportFrom) and node.module == "estbench":
            found |= {alias.name if alias.name in NAMES else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("estbench."):
            package = (node.module or "").removeprefix("estbench.")
            inner = {f"{package}.{alias.name}" for alias in node.names} & NAMES
            found |= inner | ({package} if len(inner) < len(node.names) else set())
    return found


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports, by its name."""
    return {module_of(path): imported(path) for path in MODULES}


def names_of(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


def test_every_module_has_its_place():
    assert {part_of(module) for module in imports()} <= set(LEVEL) | FACE


@pytest.mark.parametrize("module", [module for module in map(module_of, MODULES) if module not in FACE])
def test_imports_run_downward(module):
    own = part_of(module)
    others = {part_of(each) for each in imports()[module]} - {own}
    assert not others & FACE, "nothing inside imports the package's face"
    upward = {other for other in others if LEVEL[other] < LEVEL[own]}
    sideward = {other for other in others if LEVEL[other] == LEVEL[own]} if own not in GROUND else set()
    assert not upward, f"{own} may not import {upward}"
    assert not sideward, f"{own} may not import {sideward}, which is on the same floor"


def test_no_module_imports_the_face():
    faced = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if path.name != "__init__.py" or path.parent != PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module == "estbench"
    ]
    assert faced == []


def test_no_modules_import_each_other_in_a_circle():
    ordered = graphlib.TopologicalSorter(imports())
    ordered.prepare()  # raises CycleError, which names the circle


def test_no_import_is_relative():
    relative = [
        path for path in MODULES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and node.level
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


HANDLERS = """
import importlib, pkgutil, signal, sys

def handlers():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}

before = handlers()
import estbench
for module in pkgutil.walk_packages(estbench.__path__, "estbench."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from estbench.execution.engines import slurm
from estbench.execution.slurm import Slurm
from estbench.guarded import GuardedPath
with slurm(Slurm(jobs=1), GuardedPath(sys.argv[1]), "cpu", 1):
    pass
assert "dask_jobqueue.runner" in sys.modules
assert handlers() == before
"""


@pytest.mark.slow
def test_importing_anything_leaves_the_host_its_signals(environment, tmp_path):
    """Ctrl-C in a notebook is the notebook's; libraries that take it when they are imported are kept from it."""
    subprocess.run([sys.executable, "-c", HANDLERS, str(tmp_path / "logs")], env=environment, check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]], ids=" ".join)
def test_help_is_light(environment, arguments):
    statement = f"from estbench.cli import _exit_code; _exit_code({arguments})"
    assert not {"torch", "pandas", "numpy", "pydantic"} & loaded_after(statement, environment)


def test_the_ground_and_the_report_need_no_torch(environment):
    needed = [*sorted(GROUND), "report"]
    modules = [f"estbench.{module}" for module in imports() if part_of(module) in needed]
    assert "torch" not in loaded_after(f"import {', '.join(modules)}", environment)


@pytest.mark.slow
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


# What touches files in C, which no audit of Python sees: each in one module, which hands it an open file.
NATIVE = {
    "pyarrow.parquet": {"store/tables.py"},
    "shutil": {"guarded.py", "execution/slurm.py"},  # the latter only looks for a program
    "fcntl": set(),
    "glob": set(),
}
TOUCHES = """
import json, os, sys

ROOT = {root!r}
EVENTS = {{"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link",
          "os.symlink", "os.truncate", "os.utime", "os.chmod",
          "shutil.rmtree", "shutil.copyfile", "shutil.move", "shutil.copytree"}}
touched = set()

def watch(event, arguments):
    if event in EVENTS:
        for path in arguments:
            if isinstance(path, (str, bytes)) and os.path.abspath(os.fsdecode(path)).startswith(ROOT + "/"):
                touched.add(f"{{event}} {{os.fsdecode(path)}}")

from estbench.cli import _exit_code
sys.addaudithook(watch)
codes = [_exit_code(arguments) for arguments in {commands!r}]
sys.stdout = sys.stderr
print("\\n" + json.dumps([codes, sorted(touched)]))
"""


def test_what_opens_files_natively_is_in_one_module():
    wrong = []
    for path in MODULES:
        name = str(path.relative_to(PACKAGE))
        for node in ast.walk(tree_of(path)):
            modules = {node.module} if isinstance(node, ast.ImportFrom) else set()
            modules |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            wrong += [f"{name} imports {module}" for module in modules & set(NATIVE) if name not in NATIVE[module]]
            called = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr)
            if called in {("torch", "load"), ("torch", "save")} and name != "training/state.py":
                wrong.append(f"{name} calls torch.{node.attr}")
    assert wrong == []


@pytest.mark.slow
def test_results_are_opened_in_one_place(tiny_file, tmp_path, environment):
    """Whatever a command does to a results folder, no path into the folder reaches the system: only names do."""
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    tiny_file.write_text(tiny_file.read_text().replace("rounds = 0", "rounds = 1"), encoding="utf-8")
    run = ["run", str(tiny_file), "--set", "probe.shared=reparam", "--keep-checkpoints", "--timeout", "500"]
    commands = [
        [*run, "--out", a],
        [*run, "--out", a],
        [*run, "--out", b, "--seeds", "0,1"],
        ["status", a],
        ["report", a, "--format", "csv,md,html", "--tensorboard"],
        ["site", a, b, "-o", d, "--no-figures"],
        ["merge", a, b, "--out", c],
        ["compare", c, "reparam", "reparam"],
        ["clean", a, "--yes"],
        ["probe", "--results", a, "-e", "reparam", "--replicates", "10"],
        [*run, "--out", a, "--force"],
    ]
    root = str(tmp_path)
    work = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    work.mkdir()
    script = TOUCHES.format(root=root, commands=commands)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, cwd=work
    )
    codes, touched = json.loads(done.stderr.splitlines()[-1])
    roots = {a, b, c, d, str(tiny_file), root, f"{root}/certificates"}
    assert [code for code in codes if code not in {0, 2}] == [], done.stderr[-2000:]
    assert codes[0] == codes[2] == codes[4] == codes[5] == codes[6] == 0, done.stderr[-2000:]
    assert [each for each in touched if each.partition(" ")[2] not in roots] == []
