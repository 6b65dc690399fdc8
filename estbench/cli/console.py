"""Output of commands: tables for people, one plain line per event where nobody is watching.

All output goes through here, and hidden characters in strings of others (names, reasons, paths) are made visible.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import StyleType
from rich.table import Table as RichTable
from rich.text import Text

from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis
    from estbench.report.tables.base import Table

# Wide enough that nothing is folded in a file or a pipe.
UNWATCHED_WIDTH = 200
# From this width on, the answer is printed with all of its columns and intervals; below it, with these.
WIDE = 130
NARROW = ("rank", "estimator", "problem", "test", "behind", "time")


class CleanConsole(Console):
    """A console on which no string steers the terminal; those of tables and bars pass here, too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rendered pieces: control codes of the console itself, and text that has none."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text, keep="\n"))


@cache
def console(*, stderr: bool = False) -> Console:
    """The console on standard output or standard error; it takes strings as they are, without any markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else UNWATCHED_WIDTH
    return CleanConsole(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def say(text: str, *, stderr: bool = False, style: StyleType = "") -> None:
    """Print one line, never folded."""
    console(stderr=stderr).print(line(text, style), soft_wrap=True)


def line(text: str, style: StyleType = "") -> Text:
    """One line of text, with nothing hidden in it."""
    return Text(visible(text), style)


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """Print a table of plain strings; a string may have several lines."""
    table = RichTable(
        title=_block(title), title_justify="left", caption=_block(caption) or None, caption_justify="left"
    )
    for column in columns:
        table.add_column(_block(column), overflow="fold")
    for row in rows:
        table.add_row(*map(_block, row))
    console().print(table)


def print_json(data: Any) -> None:
    """Print plain data for programs."""
    text = json.dumps(data, indent=2).replace("\x7f", "\\u007f")  # all other controls are escaped already
    sys.stdout.write(f"{text}\n")


def print_answer(analysis: Analysis) -> None:
    """Print who is best and what went wrong, below the estimators by rank; a narrow terminal has fewer columns."""
    from estbench.report.tables import ranking

    table = ranking(analysis)
    narrow = console().width < WIDE
    shown = [at for at, column in enumerate(table.columns) if not narrow or column.title.startswith(NARROW)]
    grid = RichTable(title=_block(analysis.path.name), title_justify="left")
    for at in shown:
        column = table.columns[at]
        grid.add_column(_block(column.title), justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        texts = [row[at].text.replace("[", "\n[") if narrow else str(row[at]) for at in shown]
        grid.add_row(*map(_block, texts))
    console().print(grid)
    for conclusion in analysis.conclusions:
        if conclusion.kind in {"leader", "outcome"}:
            say(conclusion.text)


def print_table(table: Table) -> None:
    """Print one of the report's tables."""
    rows = [[f"{visible(entry.text)}\n{visible(entry.note)}".rstrip() for entry in row] for row in table.rows]
    print_rows(table.title, [column.title for column in table.columns], rows, table.caption)


def _block(text: str) -> Text:
    return Text(visible(text, keep="\n"))
