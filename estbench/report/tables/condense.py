"""Tables without repetition: n once in the caption, and no column that is the same in every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from estbench.report.analysis.wording import NOTHING, count_noun, format_list
from estbench.report.tables.entry import Column, Entry
from estbench.stats import FEWEST_FOR_AN_INTERVAL

Rows = Sequence[Sequence[Entry]]


def say_counts_once(rows: Rows) -> tuple[list[list[Entry]], str]:
    """Return the rows with n only where it is not the usual one, and a sentence on the usual one.

    Examples
    --------
    >>> rows, sentence = say_counts_once([[Entry("a", n=5), Entry("b", n=5)], [Entry("c", "[1, 2]", n=4), Entry("d")]])
    >>> [[str(entry) for entry in row] for row in rows], sentence
    ([['a', 'b'], ['c [1, 2], 4 seeds', 'd']], 'n = 5 seeds, unless a row says otherwise.')
    """
    counted = [entry for row in rows for entry in row if entry.n]
    usual: dict[str, int] = {}
    for unit in dict.fromkeys(entry.unit for entry in counted):
        counts = Counter(entry.n for entry in counted if entry.unit == unit)
        usual[unit] = max(counts, key=lambda n: (counts[n], n))

    def shorten(entry: Entry) -> Entry:
        if not entry.n or entry.n == usual[entry.unit]:
            return entry
        return replace(entry, note=", ".join(filter(None, [entry.note, count_noun(entry.n, entry.unit)])))

    shortened = [[shorten(entry) for entry in row] for row in rows]
    if not usual:
        return shortened, ""
    sentence = f"n = {format_list([count_noun(n, unit) for unit, n in usual.items()])}"
    sentence += ", unless a row says otherwise." if any(entry.n != usual[entry.unit] for entry in counted) else "."
    few = {entry.unit: None for entry in counted if entry.n < FEWEST_FOR_AN_INTERVAL and not entry.note}
    needs = [f"An interval needs {count_noun(FEWEST_FOR_AN_INTERVAL, unit)}." for unit in few]
    return shortened, " ".join([sentence, *needs])


def find_constant(columns: Sequence[Column], rows: Rows, kept: Sequence[bool]) -> tuple[set[int], str]:
    """Return the places of the columns that say the same in every row, and a sentence that says it once.

    Parameters
    ----------
    kept
        Which columns stay though all entries are equal: measured values. A column without any value never stays.
    """
    constant, same, empty = set(), [], []
    for at, column in enumerate(columns):
        entries = {(row[at].text, row[at].note) for row in rows}
        if len(rows) < 2 or len(entries) > 1 or column.head:
            continue
        text, note = entries.pop()
        if text == NOTHING:
            empty.append(f"{column.title} ({note})" if note else column.title)
        elif kept[at]:
            continue
        else:
            same.append(f"{column.title}: {text}{f' ({note})' if note else ''}")
        constant.add(at)
    if all(column.head or at in constant for at, column in enumerate(columns)):
        return set(), ""  # of such rows, nothing else would be left
    sentences = [f"The same in every row: {'; '.join(same)}."] if same else []
    sentences += [f"Without a value in every row: {', '.join(empty)}."] if empty else []
    return constant, " ".join(sentences)
