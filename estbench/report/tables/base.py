"""A table in two forms: raw numbers for programs (CSV), and entries for people (Markdown, LaTeX, HTML)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from estbench.report.analysis.wording import MINUS, NOTHING, TIMES, fixed, interval_note, significant
from estbench.report.sections import NOWHERE, Place
from estbench.stats import Interval
from estbench.visible import visible

# The wording of numbers is offered here too, for figures and pages.
__all__ = [
    "MINUS",
    "NOTHING",
    "TIMES",
    "Column",
    "Entry",
    "Table",
    "as_csv",
    "fixed",
    "format_interval",
    "interval_note",
    "significant",
]

LATEX = {
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
    '"': r"\textquotedbl{}",
    # A bracket that starts a row would be read as an option of the \\ before it.
    "[": "{[}",
    "]": "{]}",
    MINUS: "$-$",
    NOTHING: "--",
    TIMES: r"$\times$",
    "²": "$^2$",
    "Δ": r"$\Delta$",
}
# The beginnings of a formula in a spreadsheet: after white space or quotes, and in full width.
FORMULA = re.compile(r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]|\s*\\[trn]")
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{sign: f"\\{sign}" for sign in "\\|`*"}}


@dataclass(frozen=True)
class Entry:
    """The text in one place of a table: the value, and in small print its interval and n."""

    text: str
    note: str = ""
    best: bool = False  # shown to be better than every other; set in bold

    def __str__(self) -> str:
        return f"{self.text} {self.note}" if self.note else self.text


@dataclass(frozen=True)
class Column:
    """The title of a column. Numbers are set to the right; the entries of a head name their rows."""

    title: str
    numeric: bool = True
    head: bool = False


@dataclass(frozen=True)
class Table:
    """``data`` holds the raw numbers, ``columns`` and ``rows`` the entries; a row in ``rules`` starts a new block."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    rules: frozenset[int] = frozenset()
    place: Place = NOWHERE  # in the page, for a registered table
    group: str = ""  # the title of several views of the same thing, of which the page shows one at a time
    tab: str = ""  # the word for this view

    def to_csv(self) -> str:
        """Return the raw numbers, at full precision."""
        return as_csv(self.data)

    def to_markdown(self) -> str:
        """Return a GitHub table under its title, with the caption below."""
        lines = [
            _markdown_row([_markdown(column.title) for column in self.columns]),
            "|" + "|".join("---:" if column.numeric else ":---" for column in self.columns) + "|",
            *(_markdown_row([_markdown_entry(entry) for entry in row]) for row in self.rows),
        ]
        return f"**{_markdown(self.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(self.caption)}\n"

    def to_latex(self) -> str:
        """Return a ``table`` environment; it needs the package booktabs."""
        body = []
        for index, row in enumerate(self.rows):
            entries = [_latex_entry(entry, column) for entry, column in zip(row, self.columns, strict=True)]
            body += [r"\midrule"] * (index in self.rules) + [_latex_row(entries)]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(self.title)}. {_latex(self.caption)}}}",
            rf"\label{{tab:estbench-{self.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in self.columns)}}}",
            r"\toprule",
            _latex_row([_latex(column.title) for column in self.columns]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "% needs \\usepackage{booktabs}\n" + "\n".join(lines) + "\n"


def format_interval(interval: Interval, write: Callable[[float], str], unit: str = "") -> Entry:
    """Return a value as ``write`` writes it, with its interval and n (of ``unit``) in small print."""
    return Entry(write(interval.value), interval_note(interval, write(interval.low), write(interval.high), unit))


def as_csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV: numbers are exact, texts hide nothing and are nothing that a spreadsheet would run."""
    mixed = [name for name in frame.columns if any(isinstance(value, str) for value in frame[name])]
    texts = {name: frame[name].map(_inert) for name in mixed}
    return frame.assign(**texts).rename(columns=_inert).to_csv(index=False, lineterminator="\n")


def _inert(value: Any) -> Any:
    """Return a text, after an apostrophe if a spreadsheet would take it for a formula; numbers stay."""
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        text = visible(value)
        return f"'{text}" if FORMULA.match(text) else text
    return value.strip()


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _markdown(text: str) -> str:
    escaped = "".join(MARKDOWN.get(sign, sign) for sign in visible(_one_line(text)))
    return escaped.replace("](", "]\\(")


def _markdown_entry(entry: Entry) -> str:
    text = f"**{_markdown(entry.text)}**" if entry.best else _markdown(entry.text)
    return f"{text} {_markdown(entry.note)}" if entry.note else text


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in _one_line(text) if sign.isprintable())


def _latex_entry(entry: Entry, column: Column) -> str:
    value = rf"\textbf{{{_latex(entry.text)}}}" if entry.best else _latex(entry.text)
    parts = [value, rf"{{\footnotesize {_latex(entry.note)}}}" if entry.note else ""]
    text = " ".join(part for part in parts if part)
    if column.numeric:
        text = re.sub(r"(\d(?:\.\d+)?)e(\$-\$)?(\d+)", _power_of_ten, text)
    return text


def _power_of_ten(match: re.Match[str]) -> str:
    return rf"${match[1]}\times10^{{{'-' if match[2] else ''}{match[3]}}}$"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
