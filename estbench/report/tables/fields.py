"""Declared tables: a column is written once, as a field, and a table is a list of fields over its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pandas as pd

from estbench.errors import EstbenchError
from estbench.report.analysis import Analysis
from estbench.report.analysis.frames import Frames
from estbench.report.analysis.paired import Span
from estbench.report.analysis.wording import describe_common_problem, short_problems
from estbench.report.tables.base import Table
from estbench.report.tables.condense import find_constant, say_counts_once
from estbench.report.tables.entry import PLUS_MINUS, TIMES_OVER, Column, Entry, format_interval
from estbench.stats import Interval

Row = TypeVar("Row")


@dataclass(frozen=True)
class Field(Generic[Row]):
    """One field of every row: its name, its raw value for the CSV file, and the entry that people read.

    Attributes
    ----------
    key
        The name of its column in the CSV file. An ``Interval`` fills four columns (``key``, ``key_low``, ``key_high``
        and ``key_n``), a ``Span`` the first three.
    title
        The title of its column for people. Without a title the field is in the CSV file only.
    value
        Returns the raw value of a row. By default it is the row's attribute (of a mapping: its item) ``key``.
    write
        Returns the entry for a value, or its text.
    entry
        Returns the entry for a row, or its text: in place of ``write``, where the value is not enough.
    text
        Whether the column holds words, which are set to the left, and not numbers.
    head
        Whether the column holds words that name the row.
    best
        Which numbers are best, "high" or "low": the first click on the title of the column puts them on top.
    short
        The title of its column in the short form of the table. Without one it is in the full form only.
    keep
        Whether people see the column even if all of its entries are equal, as they always do those with intervals.
    remark
        A sentence for the caption, if people see the column.

    Examples
    --------
    >>> rate = Field("rate", "examples per second", write="{:,.0f}".format)
    >>> row = {"estimator": "reparam", "rate": 33791.1}
    >>> rate.columns_of(row), str(rate.entry_of(row))
    ({'rate': 33791.1}, '33,791')
    """

    key: str
    title: str = ""
    value: Callable[[Row], Any] | None = None
    write: Callable[[Any], Entry | str] = str
    entry: Callable[[Row], Entry | str] | None = None
    text: bool = False
    head: bool = False
    best: str = ""
    short: str = ""
    keep: bool = False
    remark: str = ""

    @property
    def column(self) -> Column:
        """The column that people read."""
        numeric = not (self.text or self.head)
        return Column(self.title, numeric=numeric, head=self.head, best=self.best, short=self.short)

    def value_of(self, row: Row) -> Any:
        """Return the raw value of a row."""
        if self.value is not None:
            return self.value(row)
        return row[self.key] if isinstance(row, Mapping) else getattr(row, self.key)

    def columns_of(self, row: Row) -> dict[str, Any]:
        """Return the columns that a row has in the CSV file for this field, by name."""
        value = self.value_of(row)
        if not isinstance(value, (Interval, Span)):
            return {self.key: value}
        return {self.key if name == "value" else f"{self.key}_{name}": each for name, each in value._asdict().items()}

    def entry_of(self, row: Row) -> Entry:
        """Return the entry that people read in a row."""
        entry = self.write(self.value_of(row)) if self.entry is None else self.entry(row)
        return Entry(entry) if isinstance(entry, str) else entry


ESTIMATOR: Field[Any] = Field("estimator", "estimator", head=True, short="estimator")


def problem_field(analysis: Frames) -> Field[Any]:
    """Return the field of the problem; people see it, by its short name, only if there are several problems."""
    names = short_problems(analysis.problems)
    return Field(
        "problem",
        "problem" if len(names) > 1 else "",
        write=lambda label: names.get(label, str(label)),
        head=True,
        short="problem",
        remark=describe_common_problem(analysis.problems),
    )


def order_by_rank(analysis: Analysis, problem: str) -> list[str]:
    """Return the estimators of a problem in the order of every table: best first, those without a rank last."""
    boards = [board for board in analysis.leaderboards if board.problem == problem]
    return [entrant.estimator for board in boards for entrant in board.entrants]


def with_interval(write: Callable[[float], str], unit: str = "seed") -> Callable[[Interval], Entry]:
    """Return a function that writes an interval: the value, and in small print its ends (with its n of ``unit``)."""
    return lambda interval: format_interval(interval, write, unit)


def frame_of(fields: Sequence[Field[Row]], rows: Iterable[Row]) -> pd.DataFrame:
    """Return the raw numbers of rows: the columns of the fields, in their order.

    Raises
    ------
    EstbenchError
        If two fields fill a column of the same name.
    """
    records = []
    for row in rows:
        columns = [column for field in fields for column in field.columns_of(row).items()]
        records.append(dict(columns))
        if len(records[-1]) < len(columns):
            raise EstbenchError(
                f"two fields fill the same column; give each its own key: {[key for key, _ in columns]}"
            )
    return pd.DataFrame(records)


def build_table(
    name: str,
    title: str,
    caption: str,
    fields: Sequence[Field[Row]],
    rows: Iterable[Row],
    *,
    csv_first: Sequence[str] = (),
    blocks: Sequence[str] = (),
    csv_rows: Iterable[Row] | None = None,
    short_caption: str = "",
) -> Table:
    """Build a table from its fields and its rows.

    The CSV file has every field. People do not see columns that are the same in all rows, nor the usual n in each
    entry: both are said once, in the caption.

    Parameters
    ----------
    name, title, caption
        The name of its files, and the words above and below it.
    fields
        In the order in which people read them.
    rows
        One object for each row.
    csv_first
        Keys of the fields that come first in the CSV file. The others follow in the order of ``fields``.
    blocks
        Keys of fields. A rule separates rows that differ in one of them.
    csv_rows
        The rows of the CSV file, if people do not see all of them.
    short_caption
        The words below its short form.

    Raises
    ------
    EstbenchError
        If two fields have the same key or fill the same column, or a key in ``csv_first`` is that of no field.
    """
    rows, by_key = list(rows), {field.key: field for field in fields}
    if len(by_key) < len(fields) or not set(csv_first) <= set(by_key):
        keys = ", ".join(field.key for field in fields)
        raise EstbenchError(f"the table '{name}' has the fields {keys}: give each its own key, and name no other first")
    in_order = [by_key[key] for key in dict.fromkeys((*csv_first, *by_key))]
    places = [tuple(by_key[key].value_of(row) for key in blocks) for row in rows]
    shown = [field for field in fields if field.title]
    columns = [field.column for field in shown]
    entries, counts = say_counts_once([[field.entry_of(row) for field in shown] for row in rows])
    kept = [field.keep or any(isinstance(field.value_of(row), Interval) for row in rows) for field in shown]
    constant, same = find_constant(columns, entries, kept)
    seen = [at for at in range(len(shown)) if at not in constant]
    remarks = [shown[at].remark for at in seen]
    intervals = [
        f"{sign}: {meaning} of the 95 % interval."
        for sign, meaning in {PLUS_MINUS: "half", TIMES_OVER: "the factor"}.items()
        if any(sign in entry.short for row in entries for entry in row)
    ]
    return Table(
        name,
        title,
        " ".join(filter(None, [caption, counts, same, *remarks])),
        frame_of(in_order, rows if csv_rows is None else csv_rows),
        tuple(columns[at] for at in seen),
        tuple(tuple(row[at] for at in seen) for row in entries),
        frozenset(at for at in range(1, len(places)) if places[at] != places[at - 1]),
        short_caption=" ".join(filter(None, [short_caption, counts, *intervals])),
    )
