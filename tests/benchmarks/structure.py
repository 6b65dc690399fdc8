"""The size and the shape of the package at some commits: files, lines, modules with one user, circles.

    python tests/benchmarks/structure.py 1578e9c HEAD

Lines of code are those without blank lines, comments and docstrings. A module has one user if one other module imports
it, the package's own ``__init__`` included. A circle is a set of modules that import each other, directly or not.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

HERE = Path(__file__).parents[2]
Sources = dict[str, str]  # by the module's name


def read(commit: str) -> Sources:
    """Return the sources of the package at a commit."""
    git = ["git", "-C", str(HERE)]
    listed = subprocess.run([*git, "ls-tree", "-r", "--name-only", commit, "estbench"], check=True, capture_output=True)
    files = [file for file in listed.stdout.decode().split() if file.endswith(".py")]
    return {
        file[:-3].replace("/", ".").removesuffix(".__init__"): subprocess.run(
            [*git, "show", f"{commit}:{file}"], check=True, capture_output=True
        ).stdout.decode()
        for file in files
    }


def lines_of_code(source: str) -> int:
    """Return the number of lines without blank ones, comments and docstrings."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            documented.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.split("\n"), start=1)
    return sum(1 for at, line in lines if at not in documented and line.strip() and not line.strip().startswith("#"))


def imports_of(source: str, modules: Sources) -> set[str]:
    """Return the modules of the package that a module imports."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                imported.add(name if name in modules else node.module)
    return imported & modules.keys()


def count_circles(imports: dict[str, set[str]]) -> list[int]:
    """Return the sizes of circles, taking away a module of each until none is left."""
    left, sizes = {name: set(others) for name, others in imports.items()}, []
    while True:
        try:
            list(TopologicalSorter(left).static_order())
        except CycleError as error:
            circle = set(error.args[1])
            sizes.append(len(circle))
            removed = error.args[1][0]
            left = {name: others - {removed} for name, others in left.items() if name != removed}
        else:
            return sizes


def main() -> None:
    """Print one block for each commit."""
    for commit in sys.argv[1:] or ["HEAD"]:
        modules = read(commit)
        imports = {name: imports_of(source, modules) - {name} for name, source in modules.items()}
        users: dict[str, int] = defaultdict(int)
        for others in imports.values():
            for name in others:
                users[name] += 1
        files, code = Counter[str](), Counter[str]()
        for name, source in modules.items():
            parts = name.split(".")
            is_package = len(parts) > 2 or (len(parts) == 2 and any(other.startswith(f"{name}.") for other in modules))
            package = parts[1] if is_package else "ground"
            files[package] += 1
            code[package] += lines_of_code(source)
        circles = count_circles(imports)
        faces = sum("estbench" in others for name, others in imports.items() if name != "estbench.__main__")
        print(
            f"{commit}: {len(modules)} files, {sum(source.count(chr(10)) for source in modules.values()):,} lines, "
            f"{sum(code.values()):,} of code; {sum(count == 1 for count in users.values())} modules with one user, "
            f"{len(circles)} circles, {faces} imports from the package's face"
        )
        print("  " + ", ".join(f"{package} {files[package]} files {code[package]:,}" for package in sorted(files)))


if __name__ == "__main__":
    main()
