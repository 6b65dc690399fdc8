"""The parts of a table: its columns, and its entries as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from estbench.report.analysis.wording import significant
from estbench.stats import Interval

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
# Between a value and the factor of an interval that is on the log scale.
TIMES_OVER = "\N{MULTIPLICATION SIGN}/\N{DIVISION SIGN}"
POWER = re.compile(r"(.*\d)e(\N{MINUS SIGN}?\d+)")
# An interval whose two sides differ by more than this share of its width is not written with a plus-minus sign.
MOST_ASYMMETRY = 0.2


@dataclass(frozen=True)
class Entry:
    """The text in one place of a table: the value, and in small print its interval or a remark.

    Attributes
    ----------
    text, note
        The value, and the small print beside it.
    best
        Whether it is shown to be better than every other; it is set in bold.
    short
        The value with half of its interval, for a narrow column; by default the text alone.
    n, unit
        The number of values behind it, and the noun of one of them; 0 if nothing is said of it.
    key
        The number by which the entry is sorted, if its text is none: "best" has the key 0 in a column of gaps.
    """

    text: str
    note: str = ""
    best: bool = False
    short: str = ""
    n: int = 0
    unit: str = "seed"
    key: float | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.note}" if self.note else self.text


@dataclass(frozen=True)
class Column:
    """The title of a column, and what its entries are.

    Attributes
    ----------
    numeric
        Whether its entries are set to the right.
    head
        Whether its entries name their rows.
    best
        Which numbers are best: "high" or "low"; empty if neither is.
    short
        Its title in the short form of the table, which has only the columns with such a title.
    """

    title: str
    numeric: bool = True
    head: bool = False
    best: str = ""
    short: str = ""


def format_interval(interval: Interval, write: Callable[[float], str], unit: str = "seed") -> Entry:
    """Return a value as ``write`` writes it, with its interval in small print and its n (of ``unit``).

    Examples
    --------
    >>> entry = format_interval(Interval(-121.04, -121.36, -120.72, 5), "{:.1f}".format)
    >>> str(entry), entry.short, entry.n
    ('-121.0 [-121.4, -120.7]', '-121.0 ± 0.3', 5)
    >>> format_interval(Interval(4.0, 2.0, 8.0, 5), "{:.1f}".format).short
    '4.0 ×/÷ 2'
    """
    text = write(interval.value)
    if not interval.low <= interval.high:  # NaN: there is no interval
        return Entry(text, n=interval.n, unit=unit)
    note = f"[{write(interval.low)}, {write(interval.high)}]"
    half = (interval.high - interval.low) / 2
    lopsided = abs(interval.low + interval.high - 2 * interval.value) > MOST_ASYMMETRY * 2 * half
    if not lopsided:
        short = _write_plus_minus(text, half)
    elif interval.low > 0:
        short = f"{text} {TIMES_OVER} {max(interval.high / interval.value, interval.value / interval.low):.3g}"
    else:
        short = f"{text} {note}"
    return Entry(text, note, short=short, n=interval.n, unit=unit)


def add_star(entry: Entry) -> Entry:
    """Return an entry whose value has a star."""
    return replace(entry, text=f"{entry.text} *", short=f"{entry.short} *" if entry.short else "")


def _write_plus_minus(text: str, half: float) -> str:
    """Return a value as it is written, plus-minus half of its interval with the same number of decimals."""
    power = POWER.fullmatch(text)
    if power:
        mantissa, exponent = power.groups()
        scaled = half / 10.0 ** int(exponent.replace("\N{MINUS SIGN}", "-"))
        return f"({_write_plus_minus(mantissa, scaled)})e{exponent}"
    decimals = len(text.partition(".")[2])
    written = f"{half:,.{decimals}f}"
    return f"{text} {PLUS_MINUS} {written if float(written.replace(',', '')) or not half else significant(half)}"
