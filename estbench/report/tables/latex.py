"""Tables in LaTeX: in full for a page, and in short for one column of an article.

Widths are estimates for Computer Modern, which is as wide as most fonts of journals. From them follow the size of the
type, whether intervals stand below their values, and where titles are broken; nothing is scaled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from estbench.report.analysis.wording import MINUS, NOTHING, TIMES
from estbench.report.tables.entry import PLUS_MINUS, Column, Entry

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # A bracket that starts a row would be read as an option of the \\ before it.
    "[": "{[}",
    "]": "{]}",
    MINUS: "$-$",
    NOTHING: "--",
    TIMES: r"$\times$",
    PLUS_MINUS: r"$\pm$",
    "÷": r"$\div$",
    "²": "$^2$",
    "Δ": r"$\Delta$",
}
BREAK = re.compile(r"(?<=[\[=_/])(?=\S)|(?<=,)(?=[^\s\d])")  # where a name may be broken, but no number
POINTS = 72.27  # of an inch
# The text of a page of a conference paper, and one of the two columns of another.
TEXT_WIDTH, COLUMN_WIDTH = 5.5 * POINTS, 3.3 * POINTS
MOST_SHORT_COLUMNS = 5
MOST_LINES = 40  # of a page; a longer table is divided
GAP = 6.0  # points between two columns
# The size of the small print by that of the text, and their widths in points: small type is wider than its name says.
SMALLER = {"footnotesize": "scriptsize", "scriptsize": "tiny"}
SIZES = {"footnotesize": 8.3, "scriptsize": 7.7, "tiny": 6.6}
POWER = re.compile(rf"(\d(?:\.\d+)?|\))e({MINUS})?(\d+)")


def write_latex(
    name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Entry]], rules: Iterable[int]
) -> str:
    """Return a table as wide as a page: on one line where it fits, else with intervals below their values.

    If it does not fit in small type either, the last columns that are not in the short form are left out.
    """
    kept = list(range(len(columns)))
    while True:
        part = [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]
        grids = [_Grid(*part, *how) for how in (("footnotesize", 1), ("footnotesize", 2), ("scriptsize", 2))]
        grid = next((grid for grid in grids if grid.least <= TEXT_WIDTH), grids[-1])
        spare = [at for at in kept if columns[at].numeric and not columns[at].short]
        if grid.least <= TEXT_WIDTH or not spare or len(kept) < MOST_SHORT_COLUMNS:
            break
        kept.remove(spare[-1])
    written = _write("table*", r"\textwidth" if grid.width > TEXT_WIDTH else "", grid, name, caption, rules)
    return _name_left_out([column.title for at, column in enumerate(columns) if at not in kept], written)


def write_short_latex(
    name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Entry]], rules: Iterable[int]
) -> str:
    """Return a table as wide as one column of an article: the most important columns, value and half interval."""
    chosen = [at for at, column in enumerate(columns) if column.short]
    if all(columns[at].head for at in chosen):
        chosen = list(range(len(columns)))
    titles = [Column(column.short or column.title, column.numeric, column.head) for column in columns]
    for count in range(min(MOST_SHORT_COLUMNS, len(chosen)), 0, -1):
        kept = chosen[:count]
        shortened = [[Entry(row[at].short or row[at].text, best=row[at].best) for at in kept] for row in rows]
        grid = _Grid([titles[at] for at in kept], shortened, "footnotesize", 1)
        if grid.least <= COLUMN_WIDTH:
            break
    written = _write("table", r"\columnwidth", grid, f"{name}-short", caption, rules)
    return _name_left_out([titles[at].title for at in chosen if at not in kept], written)


class _Grid:
    """The entries of a table in one size of type, and how wide they are.

    Attributes
    ----------
    lines
        Lines of a row: with two, the small print of numbers stands below them.
    width, least
        The width in points where no name is broken, and where all are.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Entry]], size: str, lines: int) -> None:
        self.columns, self.rows, self.size, self.lines = columns, rows, size, lines
        points, self.small = SIZES[size], SMALLER[size]
        self.widths, self.titles, least = [], [], []
        for at, column in enumerate(columns):
            texts = [self._measure(row[at], column, points) for row in rows]
            words = [_measure(word, points) for word in column.title.split()]
            widest = max([*texts, *words], default=0.0)
            self.titles.append(_break_title(column.title, widest, points))
            self.widths.append(widest)
            if column.numeric:
                least.append(widest)
                continue
            pieces = [_measure(piece, points) for row in rows for piece in _split(str(row[at]))]
            least.append(max([*pieces, *words], default=0.0))
        gaps = GAP * (len(columns) - 1)
        self.width = sum(self.widths) + gaps
        # Columns that may be broken are equally wide.
        broken = [at for at, column in enumerate(columns) if self.is_broken(at)]
        self.least = self.width - sum(self.widths[at] for at in broken)
        self.least += len(broken) * max((least[at] for at in broken), default=0.0)

    def is_broken(self, at: int) -> bool:
        """Return whether a column may be broken: words that are not short, and names."""
        return not self.columns[at].numeric and (at == 0 or self.widths[at] > 80)

    def _measure(self, entry: Entry, column: Column, points: float) -> float:
        value, note = _measure(entry.text, points), _measure(entry.note, SIZES[self.small])
        if self.lines == 2 and column.numeric:
            return max(value, note)
        return value + (note + 3 if note else 0)

    def count_lines(self, width: float) -> list[int]:
        """Return the lines of each row in a table of this width; a name that does not fit is broken."""
        broken = [at for at in range(len(self.columns)) if self.is_broken(at)]
        room = (width - self.width + sum(self.widths[at] for at in broken)) / max(len(broken), 1)
        points, counts = SIZES[self.size], []
        for row in self.rows:
            wraps = [math.ceil(1.2 * _measure(str(row[at]), points) / max(room, 1.0)) for at in broken]
            counts.append(max([1, *wraps]) + self.lines - 1)
        return counts

    def write_rows(self, broken: bool) -> list[str]:
        """Return the rows; with two lines, the small print of numbers is in a row of its own below them."""
        written = []
        for row in self.rows:
            first = [self._write(entry, at, broken=broken) for at, entry in enumerate(row)]
            below = [
                rf"{{\{self.small} {_escape_number(entry.note)}}}" if entry.note and column.numeric else ""
                for entry, column in zip(row, self.columns, strict=True)
            ]
            if self.lines == 2 and any(below):
                written.append(f"{_write_row(first)}[-2pt]\n{_write_row(below)}[1pt]")
            else:
                written.append(_write_row(first))
        return written

    def _write(self, entry: Entry, at: int, *, broken: bool) -> str:
        numeric = self.columns[at].numeric
        escape = _escape_number if numeric else _escape_name if broken and self.is_broken(at) else escape_latex
        value = rf"\textbf{{{escape(entry.text)}}}" if entry.best else escape(entry.text)
        if not entry.note or (self.lines == 2 and numeric):
            return value
        return rf"{value} {{\{self.small} {escape(entry.note)}}}".lstrip()


def _write(kind: str, width: str, grid: _Grid, name: str, caption: str, rules: Iterable[int]) -> str:
    """Return the environments of a table, one for each part of a long one; ``width`` is that of broken columns."""
    rows = grid.write_rows(bool(width))
    parts = _divide(grid.count_lines(COLUMN_WIDTH if kind == "table" else TEXT_WIDTH))
    kinds = [
        "r" if column.numeric else r">{\raggedright\arraybackslash}X" if width and grid.is_broken(at) else "l"
        for at, column in enumerate(grid.columns)
    ]
    head = [
        _write_title(lines, "r" if column.numeric else "l")
        for column, lines in zip(grid.columns, grid.titles, strict=True)
    ]
    tabular, needed = ("tabularx", r"{booktabs,tabularx}") if width else ("tabular", "{booktabs}")
    inches = math.ceil(10 * (grid.least if width else grid.width) / POINTS) / 10
    size = f"as wide as {width}, which must be at least {inches:.1f} in" if width else f"{inches:.1f} in wide"
    texts = [rf"% Needs \usepackage{needed}; {size}."]
    for number, part in enumerate(parts, start=1):
        more = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""
        lead = [
            line for at in part for line in ([r"\midrule"] if at in rules and at != part.start else []) + [rows[at]]
        ]
        texts += [
            rf"\begin{{{kind}}}",
            rf"\centering\{grid.size}",
            rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
            rf"\caption{{{_escape_name(caption + more)}}}",
            rf"\label{{tab:estbench-{name.replace('_', '-')}{f'-{number}' if more else ''}}}",
            rf"\begin{{{tabular}}}{f'{{{width}}}' if width else ''}{{@{{}}{''.join(kinds)}@{{}}}}",
            r"\toprule",
            _write_row(head),
            r"\midrule",
            *lead,
            r"\bottomrule",
            rf"\end{{{tabular}}}",
            rf"\end{{{kind}}}",
        ]
    return "\n".join(texts) + "\n"


def _divide(lines: Sequence[int]) -> list[range]:
    """Return the rows of each part of a table that has no more lines than a page; ``lines`` are those of each row."""
    starts, total = [0], 0
    for at, count in enumerate(lines):
        if at and total + count > MOST_LINES:
            starts.append(at)
            total = 0
        total += count
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _write_title(lines: Sequence[str], side: str) -> str:
    escaped = [escape_latex(line) for line in lines]
    return rf"\shortstack[{side}]{{" + r"\\".join(escaped) + "}" if len(lines) > 1 else "".join(escaped)


def _name_left_out(titles: Sequence[str], written: str) -> str:
    """Return the text of a table below a comment that names the columns that it would have if it were wider."""
    return f"% Left out: {escape_latex(', '.join(titles))}.\n{written}" if titles else written


def escape_latex(text: str) -> str:
    """Return a text on one line, in which no sign is a command."""
    return "".join(SIGNS.get(sign, sign) for sign in re.sub(r"\s+", " ", text) if sign.isprintable())


def _escape_name(text: str) -> str:
    """Return an escaped text that may be broken after the signs between the parts of a name."""
    return r"\allowbreak{}".join(map(escape_latex, BREAK.split(text)))


def _escape_number(text: str) -> str:
    parts = POWER.split(text)
    written = escape_latex(parts[0])
    for before, minus, exponent, after in zip(*(parts[at::4] for at in range(1, 5)), strict=True):
        written += rf"{before}$\times10^{{{'-' if minus else ''}{exponent}}}$" + escape_latex(after)
    return written


def _write_row(cells: Iterable[str]) -> str:
    return " & ".join(cells).rstrip() + r" \\"


def _split(text: str) -> list[str]:
    return [piece for word in re.split(r"(?<=[\s-])", text) for piece in BREAK.split(word)]


def _measure(text: str, points: float) -> float:
    """Return about how wide a text is in type of this size."""
    return _count_ems(text) * points


@lru_cache(maxsize=10_000)  # the columns of a table are measured at several sizes
def _count_ems(text: str) -> float:
    text = POWER.sub(lambda power: f"{power[1]}{TIMES}{TIMES}10{power[3]}", text)
    total = 0.0
    for sign in text:
        if sign in "iljtf.,:;'|![]() ":
            total += 0.33
        elif sign in f"mwMW{MINUS}{TIMES}{PLUS_MINUS}" or sign.isupper():
            total += 0.8
        else:
            total += 0.53
    return total


def _break_title(title: str, width: float, points: float) -> list[str]:
    """Return the lines of a title, none wider than the column if its words allow that."""
    lines: list[str] = []
    for word in title.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _measure(longer, points) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
