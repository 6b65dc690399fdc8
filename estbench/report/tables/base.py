"""A table twice: raw numbers for programs (CSV), formatted entries for people (Markdown, LaTeX, HTML)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from estbench.stats import FEWEST_FOR_AN_INTERVAL
from estbench.visible import visible

if TYPE_CHECKING:
    import pandas as pd

    from estbench.stats import Interval

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
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
# How a formula begins in a spreadsheet, white space and quotes before it, and in full width.
FORMULA = re.compile(r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]|\s*\\[trn]")
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{sign: f"\\{sign}" for sign in "\\|`*"}}


@dataclass(frozen=True)
class Entry:
    """What a person reads in one place of a table: the value, and in small print its interval and n."""

    text: str
    note: str = ""
    best: bool = False  # shown to be better than every other; set in bold

    def __str__(self) -> str:
        return f"{self.text} {self.note}" if self.note else self.text


@dataclass(frozen=True)
class Column:
    """A column's title; numbers are set to the right; a head names its row."""

    title: str
    numeric: bool = True
    head: bool = False


@dataclass(frozen=True)
class Table:
    """``data`` holds the raw numbers; ``columns`` and ``rows`` hold what people read; ``rules`` starts a new block."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    rules: frozenset[int] = frozenset()

    def to_csv(self) -> str:
        """The raw numbers, at full precision."""
        return as_csv(self.data)

    def to_markdown(self) -> str:
        """A GitHub table under its title, with the caption below."""
        lines = [
            _markdown_row([_markdown(column.title) for column in self.columns]),
            "|" + "|".join("---:" if column.numeric else ":---" for column in self.columns) + "|",
            *(_markdown_row([_markdown_entry(entry) for entry in row]) for row in self.rows),
        ]
        return f"**{_markdown(self.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(self.caption)}\n"

    def to_latex(self) -> str:
        """A ``table`` environment; needs the package booktabs."""
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


def fixed(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number with a fixed count of decimals, so that a column lines up."""
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else str(value).replace("-", MINUS)
    if abs(value) >= 1e6:
        return significant(value)
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    return text.replace("-", MINUS)


def significant(value: float) -> str:
    """A number with three significant digits, for what spans orders of magnitude."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else fixed(value)
    if 1e-3 <= abs(value) < 1e4:
        decimals = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def bytes_as_mib(value: float) -> str:
    """A size in MiB."""
    return fixed(value / 2**20, 0)


def interval_note(interval: Interval, low: str, high: str, unit: str = "") -> str:
    """The small print below a value: its ends, already written, and n; or why there are none."""
    n = f"n = {interval.n} {unit}".rstrip()
    if interval.n and not math.isnan(interval.low):
        return f"[{low}, {high}], {n}"
    return f"{n} < 3: no interval" if 0 < interval.n < FEWEST_FOR_AN_INTERVAL else n


def as_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV: numbers exact, texts with nothing hidden in them and nothing that a spreadsheet would run."""
    mixed = [name for name in frame.columns if any(isinstance(value, str) for value in frame[name])]
    texts = {name: frame[name].map(_inert) for name in mixed}
    return frame.assign(**texts).rename(columns=_inert).to_csv(index=False, lineterminator="\n")


def _inert(value: Any) -> Any:
    """A text as it is, or after an apostrophe where a spreadsheet would take it for a formula; numbers stay."""
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
