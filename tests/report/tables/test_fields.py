"""A table is a list of fields, from which its columns, its raw values and its entries come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from estbench.errors import EstbenchError
from estbench.report.analysis.paired import Span
from estbench.report.tables.base import Entry
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, with_interval
from estbench.stats import Interval


@dataclass
class Row:
    """A row with a value of every kind."""

    estimator: str
    rate: Interval
    cost: Span
    group: str = "a"


ROWS = [
    Row("reparam", Interval(1.0, 0.5, 2.0, 4), Span(3.0, 2.0, 4.0)),
    Row("stl", Interval(2.0, math.nan, math.nan, 2), Span(5.0, 5.0, 5.0), "b"),
]
FIELDS = [
    ESTIMATOR,
    Field("rate", "rate", write=with_interval("{:.1f}".format, "round")),
    Field("cost", "cost of both", entry=lambda row: Entry(f"{row.cost.value:.0f}", row.group)),
    Field("group"),
]


def test_a_field_gives_the_column_the_raw_values_and_the_entry():
    table = build_table("t", "T", "C.", FIELDS, ROWS, csv_first=("group", "cost"), blocks=("group",))
    names = "group cost cost_low cost_high estimator rate rate_low rate_high rate_n"
    assert list(table.data.columns) == names.split()
    assert table.data.iloc[0].tolist() == ["a", 3.0, 2.0, 4.0, "reparam", 1.0, 0.5, 2.0, 4]
    assert [(column.title, column.numeric, column.head) for column in table.columns] == [
        ("estimator", False, True),
        ("rate", True, False),
        ("cost of both", True, False),
    ]
    assert [[str(entry) for entry in row] for row in table.rows] == [
        ["reparam", "1.0 [0.5, 2.0]", "3 a"],
        ["stl", "2.0 2 rounds", "5 b"],
    ]
    assert table.rules == {1}


def test_rows_may_be_mappings():
    field = Field("seconds", "s", write="{:.1f}".format)
    assert field.columns_of({"seconds": 2.25}) == {"seconds": 2.25}
    assert field.entry_of({"seconds": 2.25}) == Entry("2.2")


@pytest.mark.parametrize(("fields", "first"), [([*FIELDS, Field("rate")], ()), (FIELDS, ("rates",))])
def test_keys_are_unique_and_known(fields, first):
    with pytest.raises(EstbenchError, match="the table 't' has the fields estimator, rate, cost, group"):
        build_table("t", "T", "C.", fields, ROWS, csv_first=first)


def test_two_fields_never_share_a_column_of_the_csv_file():
    with pytest.raises(EstbenchError, match="rate_low"):
        build_table("t", "T", "C.", [*FIELDS, Field("rate_low", value=lambda row: 0.0)], ROWS)
