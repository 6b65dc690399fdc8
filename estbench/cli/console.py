"""Output of commands: tables for people, one plain line per event where nobody is watching.

All output goes through here, and hidden characters in strings of others (names, reasons, paths) are made visible.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import StyleType
from rich.text import Text

from estbench.cli.layout import Column, Kind, Layout, lay_out, wrap, wrap_name
from estbench.visible import visible

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis
    from estbench.report.tables.base import Column as TableColumn
    from estbench.report.tables.base import Entry, Table

# Wide enough that nothing is folded in a file or a pipe, unless COLUMNS says how wide that is.
UNWATCHED_WIDTH = 200
# Longer lines of prose are hard to read.
PROSE_WIDTH = 100
# The columns of the answer, from the most important one on; the others come after them.
ANSWER = ("rank", "estimator", "problem", "test", "behind", "time", "remarks", "seeds", "gradient", "evaluations")
# So many of them are never left out.
ANSWER_ALWAYS = 6
PLUS_MINUS, TIMES = "\N{PLUS-MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
# A column that names the rows in words is not made narrower than this to show one more column.
ROOM_FOR_HEADS = 26
# An interval is less important than the columns in these many places after its value, in tenths of a place.
LESS = 35


class CleanConsole(Console):
    """A console on which no string steers the terminal; those of bars pass here, too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rendered pieces: control codes of the console itself, and text that has none."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text, keep="\n"))


@cache
def console(*, stderr: bool = False) -> Console:
    """The console on standard output or standard error; it takes strings as they are, without any markup."""
    width = None if _has_width(stderr=stderr) else UNWATCHED_WIDTH
    return CleanConsole(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def _has_width(*, stderr: bool) -> bool:
    """Whether lines have to fit: on a terminal, and wherever COLUMNS gives a number."""
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty() or os.environ.get("COLUMNS", "").isdigit()


def say(text: str, *, stderr: bool = False, style: StyleType = "") -> None:
    """Print one line; on a terminal, a long one is wrapped at blanks."""
    _print(fold(visible(text), stderr=stderr), style, stderr=stderr)


def warn(message: str) -> None:
    """Print a warning, one line on standard error."""
    say(f"Warning: {message}", stderr=True)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """On a terminal, show what takes time while nothing else is shown."""
    if not console().is_terminal:
        yield
        return
    with console().status(what):
        yield


def fold(text: str, *, stderr: bool = False, hang: str = "") -> list[str]:
    """Return a line as the lines that fit the terminal; elsewhere it stays one."""
    return wrap(text, console(stderr=stderr).width, hang) if _has_width(stderr=stderr) else [text]


def print_prose(text: str) -> None:
    """Print a text of several paragraphs: these are filled again, and indented lines stay lines."""
    width = min(console().width, PROSE_WIDTH)
    paragraph: list[str] = []
    for each in [*visible(text, keep="\n").splitlines(), ""]:
        begins = not each.strip() or each[0] == " " or each.startswith((">>>", "...", "---", "- ", "@", "}"))
        if begins and paragraph:
            _print(wrap(" ".join(paragraph), width))
            paragraph = []
        if not begins:
            paragraph.append(each)
        else:
            _print(wrap(each, width, "  "))


def print_rows(
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    group: str = "",
    elsewhere: str = "",
) -> None:
    """Print a table of plain strings.

    Parameters
    ----------
    title, caption
        The line above, and the sentences below.
    columns, rows
        The entries, each in one line.
    group
        The title of a column whose entries stand above their rows, once for each of them.
    elsewhere
        Where a reader finds the columns that do not fit; for example ``--json``.
    """
    clean = [[visible(" ".join(text.splitlines())) for text in row] for row in rows]
    columns = [column._replace(title=visible(column.title)) for column in columns]
    width = console().width
    blocks: dict[str, list[int]] = {"": [*range(len(clean))]}
    at = next((at for at, column in enumerate(columns) if group and column.title == group), None)
    if at is not None and len({row[at] for row in clean}) > 1:
        blocks = {}
        for number, row in enumerate(clean):
            blocks.setdefault(row.pop(at), []).append(number)
        del columns[at]
    layout = lay_out(columns, clean, width)
    if title:
        _print(wrap(visible(title), width), "bold")
    _print(layout.head, "bold")
    lines = [line for lines in (layout.head, *layout.rows) for line in lines]
    _print([RULE * min(width, max(map(cell_len, lines), default=0))], "dim")
    for name, numbers in blocks.items():
        if name:
            if numbers[0]:
                _print([""])
            _print(wrap_name(name, width), "underline")
        for number in numbers:
            _print(layout.rows[number])
    _print_notes(layout, caption, elsewhere)


def _print_notes(layout: Layout, caption: str, elsewhere: str) -> None:
    """Print below a table what its columns do not show, and its caption."""
    notes = []
    if layout.same:
        notes.append(f"in all rows: {'; '.join(f'{title} {entry}' for title, entry in layout.same.items())}")
    if layout.left_out:
        also = f", and in {elsewhere}" if elsewhere else ""
        notes.append(f"left out: {'; '.join(layout.left_out)} (shown from {layout.needed} columns on{also})")
    for note in [*notes, *([visible(caption)] if caption else [])]:
        _print(wrap(note, min(console().width, PROSE_WIDTH)), "dim" if note in notes else "")


def print_json(data: Any) -> None:
    """Print plain data for programs."""
    text = json.dumps(data, indent=2).replace("\x7f", "\\u007f")  # all other controls are escaped already
    sys.stdout.write(f"{text}\n")


def print_file(text: str) -> None:
    """Print the text of a whole file, Markdown or CSV, as it is; nothing in it may steer a terminal."""
    sys.stdout.write(visible(text, keep="\n"))


def print_table(table: Table, order: Sequence[str] = (), *, group: str = "", elsewhere: str = "") -> None:
    """Print one of the report's tables.

    An interval stands in a column of its own, which is left out before its value.

    Parameters
    ----------
    table
        The table.
    order
        How the titles of its columns begin, from the most important one on; other columns come after them. Columns that
        name the rows are never left out.
    group, elsewhere
        As in ``print_rows``.
    """
    columns: list[Column] = []
    entries: list[list[str]] = []  # by column
    for at, column in enumerate(table.columns):
        importance = _importance(column.title, at, order)
        kind = _kind(column, [row[at].text for row in table.rows])
        texts, ends = [row[at].text for row in table.rows], [row[at].note for row in table.rows]
        intervals = any(end.startswith("[") for end in ends)
        if not intervals:
            texts = [f"{text} {end}".rstrip() for text, end in zip(texts, ends, strict=True)]
        rank, room = (0, ROOM_FOR_HEADS) if column.head else (10 * importance + 1, 0)
        columns.append(Column(column.title, kind, rank, keep=column.head, room=room))
        entries.append(texts)
        if intervals:
            columns.append(Column(f"interval of {column.title}", "number", 10 * importance + LESS, head="interval"))
            entries.append(ends)
    rows = [*zip(*entries, strict=True)]
    print_rows(table.title, columns, rows, caption=table.caption, group=group, elsewhere=elsewhere)


def _kind(column: TableColumn, texts: Sequence[str]) -> Kind:
    if not column.head:
        return "number" if column.numeric else "text"
    return "text" if any(" " in text for text in texts) else "name"


def _importance(title: str, at: int, order: Sequence[str]) -> int:
    starts = [start for start in order if title.startswith(start)]
    return order.index(max(starts, key=len)) if starts else len(order) + at


class Answer(NamedTuple):
    """The end of a command: the estimators by rank, and then who is best and what went wrong."""

    title: str
    columns: list[Column]
    rows: list[list[str]]
    caption: str
    sentences: list[str]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Answer:
        """Return an answer from the plain data that ``_asdict`` gave; raise ``ValueError`` if it is something else."""
        from pydantic import TypeAdapter

        answer = TypeAdapter(cls).validate_python(data)
        if {len(row) for row in answer.rows} != {len(answer.columns)}:
            raise ValueError("a row has another number of entries than there are columns")
        return answer


def print_answer(answer: Answer) -> None:
    """Print the estimators by rank, and the sentences below them."""
    title, columns, rows, caption, sentences = answer
    print_rows(title, columns, rows, caption=caption, group="problem", elsewhere="the report")
    for sentence in sentences:
        say(sentence)


def answer_of(analysis: Analysis) -> Answer:
    """Return what a command about these results ends with."""
    from estbench.report.tables import ranking

    table = ranking(analysis)
    columns = [
        Column(
            column.title,
            _kind(column, [row[at].text for row in table.rows]),
            rank if (rank := _importance(column.title, at, ANSWER)) >= ANSWER_ALWAYS else 0,
            keep=rank < ANSWER_ALWAYS - 1,
        )
        for at, column in enumerate(table.columns)
    ]
    rows = [
        [
            _write_half_width(table, at, entry) if column.title.startswith("test") else str(entry)
            for column, entry in zip(table.columns, row, strict=True)
        ]
        for at, row in enumerate(table.rows)
    ]
    sentences = [each.text for each in analysis.conclusions if each.kind in {"leader", "outcome"}]
    return Answer(analysis.path.name, columns, rows, _explain_answer(table, analysis.reference), sentences)


def _explain_answer(table: Table, reference: str | None) -> str:
    """Return what the signs of the answer mean, of those that it has."""
    signs = {sign for row in table.rows for entry in row for sign in (*entry.text, *entry.note)}
    bounds = zip(table.data["bound_n"], table.data["bound_low"], strict=True)
    counts = sorted({int(n) for n, low in bounds if math.isfinite(low)})
    parts = []
    if counts:
        seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(f"{PLUS_MINUS} half of the 95 % interval over {seeds} seeds")
    if "*" in signs:
        parts.append("* significantly behind the best (p at most 0.05, corrected)")
    if TIMES in signs and reference:
        parts.append(f"{TIMES} relative to {reference}")
    return "; ".join(parts)


def _write_half_width(table: Table, at: int, entry: Entry) -> str:
    """Return a bound with half the width of its interval, which takes less room than both ends."""
    low, high = (float(table.data[f"bound_{end}"].iloc[at]) for end in ("low", "high"))
    half = (high - low) / 2
    return entry.text if math.isnan(half) else f"{entry.text} {PLUS_MINUS} {half:,.{1 if half >= 0.05 else 3}f}"


def _print(lines: Sequence[str], style: StyleType = "", *, stderr: bool = False) -> None:
    console(stderr=stderr).print(Text("\n".join(lines), style), soft_wrap=True)
