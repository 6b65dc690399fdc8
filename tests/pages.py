"""The written pages: which there are, and their code, commands, links and numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import rich_click as click

from estbench.cli import group

ROOT = Path(__file__).parents[1]
WRITTEN = ("README.md", "docs/the_trick.md", "docs/which_estimator.md", "docs/howto/*.md", "docs/measures/*.md")
PAGES = {str(path.relative_to(ROOT)): path for pattern in WRITTEN for path in sorted(ROOT.glob(pattern))}


def text_of(name: str) -> str:
    """Return the text of a page, by its path in the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without its blocks, on one line."""
    return " ".join(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).split())


def python_of(text: str) -> str:
    """Return the Python blocks of a page as one file, in order."""
    return "\n\n".join(blocks(text, "python"))


def outputs_of(text: str) -> list[str]:
    """Return the outputs that a page shows directly below blocks of Python."""
    return re.findall(r"^```python\n(?:[^`]|`(?!``))*^```\n\n```text\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands_of(text: str) -> list[list[str]]:
    """Return the arguments of each `estbench` command in the shell blocks."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").replace("&&", "\n").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["estbench"]]


def links_of(text: str) -> list[str]:
    """Return the targets within the repository."""
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors_of(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


def parse(arguments: list[str]) -> click.Context:
    """Parse a command by the commands themselves, and run nothing; raise ``ClickException`` for a wrong one."""
    context = group.make_context("estbench", [*arguments])
    while isinstance(context.command, click.Group):
        # Click 8.1 has the first of these names, later ones the second.
        own = vars(context).get("protected_args", vars(context).get("_protected_args", []))
        name, command, rest = context.command.resolve_command(context, [*own, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context
