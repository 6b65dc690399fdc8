"""Names that a shell completes: ``estbench run -e rl<TAB>``.

A shell starts the program for each press of the key, so nothing is imported that is slow. The names of what ships are
read from the decorators in the source, and those of installed packages from their entry points; a plugin file is not
run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

# The variable in which a shell says what it wants; click makes its name from the program's.
VARIABLE = "_ESTBENCH_COMPLETE"
PACKAGE = Path(__file__).parents[1]
# Of each kind: where its entries are, and the decorator that registers them.
SOURCES = {
    "estimators": ("estimators", "register"),
    "problems": ("problems", "register"),
    "parts": ("problems", r"register_\w+"),
    "datasets": ("datasets", "register"),
    "metrics": ("measure", "register_metric"),
}


def is_completing() -> bool:
    """Whether a shell asks for completions, or for the script that it asks by."""
    return VARIABLE in os.environ


def complete(*kinds: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return the function that an argument or an option completes names of these kinds by.

    Where no experiment has such a name, the shell completes names of files.
    """

    def find_items(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = {name for kind in kinds for name in known_names(kind)}
        items = [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
        return items or ([CompletionItem(incomplete, type="file")] if "experiments" in kinds else [])

    return find_items


def known_names(kind: str) -> Iterator[str]:
    """Yield the names of one kind, without importing what they name."""
    if kind == "experiments":
        from estbench.experiment.spec import shipped_experiments

        yield from shipped_experiments()
        return
    folder, decorator = SOURCES[kind]
    pattern = re.compile(rf'^@{decorator}\(\s*"([^"]+)"', re.MULTILINE)
    for path in (PACKAGE / folder).rglob("*.py"):
        yield from pattern.findall(path.read_text(encoding="utf-8"))
    yield from (point.name for point in metadata.entry_points(group=f"estbench.{kind}"))
