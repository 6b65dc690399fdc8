"""The parts of a page in Markdown: tables and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a table; a text that has | in it stays in its cell.

    >>> print(table(["name", "n"], [["|b|", 2]]))
    | name | n |
    |:---|:---|
    | \|b\| | 2 |
    """
    lines = [titles, *rows]
    written = ["| " + " | ".join(_cell(each) for each in line) + " |" for line in lines]
    return "\n".join([written[0], "|" + ":---|" * len(titles), *written[1:]])


def code(value: object) -> str:
    """Return a value as code; an empty one stays empty."""
    return f"`{value}`" if str(value) else ""


def yes_or_no(value: object) -> str:
    """Return a truth value as a word, a list as its words, and anything else as it is.

    >>> yes_or_no(True), yes_or_no(["a", "b"]), yes_or_no(2)
    ('yes', 'a, b', '2')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def page(title: str, *parts: str) -> str:
    """Return a page of a title and parts, without the empty ones."""
    return "\n\n".join([f"# {title}", *(part for part in parts if part)]) + "\n"


def section(title: str, *parts: str) -> str:
    """Return a section, or nothing if all its parts are empty."""
    kept = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *kept]) if kept else ""


def hidden_toctree(names: Iterable[str]) -> str:
    """Return what puts pages beside this one into the site's navigation."""
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
