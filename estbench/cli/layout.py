"""Tables and sentences that fit a width, without a break inside a word, a name or a number.

Text is wrapped at blanks. The name of a variant is broken after ``[`` or ``,``, and only if it has to be. If the
columns of a table do not all fit, the least important ones are left out, and the caller says so. A word that is longer
than the whole width stands on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len

# Blanks between two columns, and before what stands below a row.
GAP = 2
INDENT = "    "
# A column that can be made narrower than its longest entry is not made narrower than this, unless nothing else helps.
COMFORTABLE = {"name": 26, "text": 16, "number": 10**6}
# A last column of text with less room than this stands below its row.
ROOM_FOR_TEXT = 30
Kind = Literal["text", "name", "number"]
PIECE = re.compile(r".*?[\[,]+|.+$")
# A word, or a number with its sign or unit: "n = 5", "95 %".
WORD = re.compile(r"\S+(?: (?:[=<>/\u2264\u00b1\u2212] \S+|%\S*))*")


class Column(NamedTuple):
    """One column of a table.

    Attributes
    ----------
    kind
        ``text`` is wrapped at blanks, and a ``name`` is broken after ``[`` and ``,``; a ``number`` stands on the right
        and is never wrapped.
    rank
        If there is too little room, the column of the highest rank is left out first. Rank 0 is never left out.
    keep
        Whether the column is shown even if all of its entries are the same.
    head
        What stands above the column, if that is shorter than the title.
    room
        The width below which a column is not made narrower to show one more; by default that of its kind.
    """

    title: str
    kind: Kind = "text"
    rank: int = 0
    keep: bool = False
    head: str = ""
    room: int = 0


class Layout(NamedTuple):
    """The lines of a table, and what they do not show.

    Attributes
    ----------
    head
        The lines of the titles.
    rows
        The lines of each row.
    same
        The entry of every column that has the same one in all rows, by title.
    left_out
        The titles of the columns that did not fit.
    needed
        The width from which on all columns fit.
    """

    head: list[str]
    rows: list[list[str]]
    same: dict[str, str]
    left_out: list[str]
    needed: int


def wrap(text: str, width: int, hang: str = "") -> list[str]:
    """Return the lines of a text, broken at blanks; those after the first begin with ``hang``.

    A word with brackets that is longer than a line is broken like the name of a variant.

    >>> wrap("score function, without a baseline", 20)
    ['score function,', 'without a baseline']
    """
    if cell_len(text) <= width:
        return [text]
    lead = text[: len(text) - len(text.lstrip(" "))]
    parts: list[tuple[str, str]] = []  # what stands between a part and the one before it, and the part
    for word in WORD.findall(text):
        if "[" in word and cell_len(word) > width - len(hang):
            parts += [("" if at else " ", piece) for at, piece in enumerate(PIECE.findall(word))]
        else:
            parts.append((" ", word))
    return _fill(parts, width, lead, lead + hang)


def wrap_name(name: str, width: int) -> list[str]:
    """Return the lines of a name, broken after ``[`` or ``,``; those after the first are indented.

    >>> wrap_name("vae[dataset=digits,latent_size=4]", 20)
    ['vae[dataset=digits,', ' latent_size=4]']
    """
    if cell_len(name) <= width:
        return [name]
    return _fill([("", piece) for piece in PIECE.findall(name)], width, "", " ")


def _fill(parts: Iterable[tuple[str, str]], width: int, lead: str, hang: str) -> list[str]:
    lines: list[str] = []
    line, empty = lead, True
    for between, part in parts:
        if not empty and cell_len(line + between + part) > width:
            lines.append(line)
            line, empty = hang, True
        line += part if empty else between + part
        empty = False
    return [*lines, line]


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Layout:
    """Choose the columns that fit, and wrap their entries.

    Columns without an entry are dropped; so are columns with the same entry in several rows, except those to keep.

    Parameters
    ----------
    columns, rows
        The table; every row has one entry for each column.
    width
        The characters of a line.
    """
    entries = [[row[at] for row in rows] for at in range(len(columns))]
    filled = [at for at, texts in enumerate(entries) if any(texts) or columns[at].keep]
    same = {
        columns[at].title: entries[at][0]
        for at in filled
        if len(rows) > 1 and not columns[at].keep and len(set(entries[at])) == 1
    }
    every = [at for at in filled if columns[at].title not in same]
    widest = {at: _widest(columns[at], entries[at]) for at in every}
    narrowest = {at: _narrowest(columns[at], entries[at]) for at in every}
    least = {at: max(narrowest[at], min(widest[at], columns[at].room or COMFORTABLE[columns[at].kind])) for at in every}
    last = every[-1] if every and columns[every[-1]].kind == "text" and not columns[every[-1]].rank else None
    if last is not None and len(every) > 1:
        least[last] = max(narrowest[last], min(widest[last], ROOM_FOR_TEXT))

    shown = list(every)
    below = None
    if last is not None and len(shown) > 1 and _total(least, shown) > width:
        below = last
        shown.remove(last)
    while _total(least, shown) > width and any(columns[at].rank for at in shown):
        shown.remove(max(shown, key=lambda at: (columns[at].rank, at)))
    if _total(least, shown) > width:
        least = narrowest
    widths = _share(shown, columns, least, widest, width)

    def cell(at: int, text: str) -> list[str]:
        return wrap_name(text, widths[at]) if columns[at].kind == "name" else wrap(text, widths[at])

    kinds = [columns[at].kind for at in shown]
    head = _stack([wrap(_head(columns[at]), widths[at]) for at in shown], [*widths.values()], kinds, bottom=True)
    lines = []
    for number in range(len(rows)):
        row = _stack([cell(at, entries[at][number]) for at in shown], [*widths.values()], kinds)
        if below is not None and entries[below][number]:
            row += wrap(INDENT + entries[below][number], width)
        lines.append(row)
    hidden = [columns[at].title for at in every if at not in shown and at != below]
    return Layout(head, lines, same, hidden, _total(least, every))


def _head(column: Column) -> str:
    return column.head or column.title


def _widest(column: Column, texts: Sequence[str]) -> int:
    return max(map(cell_len, [*texts, *WORD.findall(_head(column))]))


def _narrowest(column: Column, texts: Sequence[str]) -> int:
    """Return the width below which something would be cut."""
    unit = {"text": WORD, "name": PIECE, "number": re.compile(".+")}[column.kind]
    parts = [part for text in texts for part in unit.findall(text)]
    margin = 1 if column.kind == "name" else 0  # the indent of a name's second line
    return min(max(map(cell_len, [*parts, *WORD.findall(_head(column))]), default=0) + margin, _widest(column, texts))


def _total(widths: dict[int, int], shown: Sequence[int]) -> int:
    return sum(widths[at] for at in shown) + GAP * (len(shown) - 1)


def _share(
    shown: Sequence[int], columns: Sequence[Column], least: dict[int, int], widest: dict[int, int], width: int
) -> dict[int, int]:
    """Return the width of each shown column: what is left goes to names first, then to where most is wrapped."""
    widths = {at: least[at] for at in shown}
    left = width - _total(widths, shown)
    for at in sorted(shown, key=lambda at: columns[at].kind != "name"):
        if columns[at].kind == "name":
            more = max(0, min(left, widest[at] - widths[at]))
            widths[at] += more
            left -= more
    while left > 0 and (wrapped := [at for at in shown if widths[at] < widest[at]]):
        widths[max(wrapped, key=lambda at: widest[at] / max(1, widths[at]))] += 1
        left -= 1
    # A title may take what is left, so that it has fewer lines.
    for at in shown:
        more = max(0, min(left, cell_len(_head(columns[at])) - widths[at], 16 - widths[at]))
        widths[at] += more
        left -= more
    return widths


def _stack(
    cells: Sequence[Sequence[str]], widths: Sequence[int], kinds: Sequence[str], *, bottom: bool = False
) -> list[str]:
    """Return the lines of a row from the lines of its entries."""
    height = max(map(len, cells), default=0)
    lines = []
    for level in range(height):
        parts = []
        for cell, width, kind in zip(cells, widths, kinds, strict=True):
            at = level - (height - len(cell)) if bottom else level
            text = cell[at] if 0 <= at < len(cell) else ""
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if kind == "number" else text + blanks)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines
