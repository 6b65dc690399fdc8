"""How commands print: tables for people, one plain line per event where nobody is watching."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from estbench.report.table import Table

# Wide enough that nothing is folded in a file or a pipe.
UNWATCHED_WIDTH = 200


@cache
def console(*, stderr: bool = False) -> Console:
    """The console on standard output or standard error."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else UNWATCHED_WIDTH)


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """Print a table of plain strings."""
    table = RichTable(
        title=escape(title), title_justify="left", caption=escape(caption) or None, caption_justify="left"
    )
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_json(data: Any) -> None:
    """Print plain data for programs."""
    click.echo(json.dumps(data, indent=2))


def print_table(table: Table) -> None:
    """Print one of the report's tables."""
    rows = [[f"{entry.text}\n{entry.note}".rstrip() for entry in row] for row in table.rows]
    print_rows(table.title, [column.title for column in table.columns], rows, table.caption)
