"""A table in two forms: raw numbers for programs (CSV), and entries for people (Markdown, LaTeX, HTML)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from estbench.report.analysis.wording import MINUS, NOTHING, TIMES, fixed, interval_note, significant
from estbench.report.sections import NOWHERE, Place
from estbench.report.tables.entry import Column, Entry, format_interval
from estbench.report.tables.latex import write_latex, write_short_latex
from estbench.visible import visible

# The wording of numbers and the parts of a table are offered here too, for figures and pages.
__all__ = [
    "MINUS",
    "NOTHING",
    "TIMES",
    "Column",
    "Entry",
    "Table",
    "as_csv",
    "escape_markdown",
    "fixed",
    "format_interval",
    "interval_note",
    "significant",
]

# The beginnings of a formula in a spreadsheet: after white space or quotes, and in full width.
FORMULA = re.compile(r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]|\s*\\[trn]")
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{sign: f"\\{sign}" for sign in "\\|`*"}}


@dataclass(frozen=True)
class Table:
    """Raw numbers and entries.

    Attributes
    ----------
    caption, short_caption
        The words below the table; in its short form, only the second.
    data
        The raw numbers.
    columns, rows
        The entries that people read; a row in ``rules`` starts a new block.
    place
        Where a registered table stands in the page.
    group, tab
        The title of several views of the same thing, of which the page shows one at a time, and the word for this one.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    rules: frozenset[int] = frozenset()
    place: Place = NOWHERE
    short_caption: str = ""
    group: str = ""
    tab: str = ""

    def files(self, formats: Collection[str] = ("csv", "md", "tex")) -> dict[str, str]:
        """Return the text of each file of the table in some formats, by the ending of its name."""
        files: dict[str, Callable[[], str]] = {
            "csv": self.to_csv,
            "md": self.to_markdown,
            "tex": self.to_latex,
            "short.tex": lambda: self.to_latex(short=True),
        }
        return {ending: write() for ending, write in files.items() if ending.rpartition(".")[2] in formats}

    def to_csv(self) -> str:
        """Return the raw numbers, at full precision."""
        return as_csv(self.data)

    def to_markdown(self) -> str:
        """Return a GitHub table under its title, with the caption below."""
        lines = [
            _markdown_row([escape_markdown(column.title) for column in self.columns]),
            "|" + "|".join("---:" if column.numeric else ":---" for column in self.columns) + "|",
            *(_markdown_row([_markdown_entry(entry) for entry in row]) for row in self.rows),
        ]
        return f"**{escape_markdown(self.title)}**\n\n" + "\n".join(lines) + f"\n\n{escape_markdown(self.caption)}\n"

    def to_latex(self, *, short: bool = False) -> str:
        """Return a float with the table, as wide as a page; in short, as wide as one column of an article."""
        write, caption = (write_short_latex, self.short_caption) if short else (write_latex, self.caption)
        return write(self.name, f"{self.title}. {caption}".rstrip(), self.columns, self.rows, self.rules)


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


def escape_markdown(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line."""
    escaped = "".join(MARKDOWN.get(sign, sign) for sign in visible(_one_line(text)))
    return escaped.replace("](", "]\\(")


def _markdown_entry(entry: Entry) -> str:
    text = f"**{escape_markdown(entry.text)}**" if entry.best else escape_markdown(entry.text)
    return f"{text} {escape_markdown(entry.note)}" if entry.note else text


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
