"""Declared tables: a column is written once, as a field, and a table is a list of fields over its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pandas as pd

from estbench.errors import EstbenchError
from estbench.report.analysis import Analysis
from estbench.report.analysis.paired import Span
from estbench.report.tables.base import Column, Entry, Table, format_interval
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

    @property
    def column(self) -> Column:
        """The column that people read."""
        return Column(self.title, numeric=not (self.text or self.head), head=self.head)

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


ESTIMATOR: Field[Any] = Field("estimator", "estimator", head=True)


def problem_field(analysis: Analysis) -> Field[Any]:
    """Return the field of the problem; people see it only if there are several problems."""
    return Field("problem", "problem" if len(analysis.problems) > 1 else "", head=True)


def with_interval(write: Callable[[float], str], unit: str = "") -> Callable[[Interval], Entry]:
    """Return a function that writes an interval: the value, and in small print its ends and n (of ``unit``)."""
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
    data: pd.DataFrame | None = None,
) -> Table:
    """Build a table from its fields and its rows.

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
        Columns of the CSV file. A rule separates rows that differ in one of them.
    data
        Other raw numbers than those of the fields, for a table whose CSV file has other rows.

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
    numbers = frame_of(in_order, rows)
    places = [tuple(place) for place in numbers[[*blocks]].to_numpy()] if rows else []
    shown = [field for field in fields if field.title]
    return Table(
        name,
        title,
        caption,
        numbers if data is None else data,
        tuple(field.column for field in shown),
        tuple(tuple(field.entry_of(row) for field in shown) for row in rows),
        frozenset(at for at in range(1, len(places)) if places[at] != places[at - 1]),
    )
