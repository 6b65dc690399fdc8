"""Tables register themselves: each has a section and a name of its own, and its fields are declared once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pandas as pd
import pytest
from records import write_results

from estbench.errors import EstbenchError
from estbench.report import build
from estbench.report.analysis.paired import Span
from estbench.report.page.render import part
from estbench.report.page.sections import SECTIONS
from estbench.report.tables import all_tables, registry
from estbench.report.tables.base import Entry
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, with_interval
from estbench.report.tables.registry import TABLES, register_table
from estbench.stats import Interval
from estbench.store import load


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load(write_results(tmp_path_factory.mktemp("registry") / "r", ["reparam", "stl"], 2, rounds=2))


@pytest.fixture
def made_up():
    """A table of our own, which is gone after the test."""

    @register_table(section="throughput")
    def slowest_rounds(results):
        rows = results.throughput.groupby("estimator", sort=False)["seconds"].max().reset_index().to_dict("records")
        fields = [ESTIMATOR, Field("seconds", "slowest round", write="{:.1f} s".format)]
        return build_table("slowest_rounds", "The slowest rounds", "Seconds of a round.", fields, rows)

    yield slowest_rounds
    del TABLES["slowest_rounds"]


def test_every_table_has_a_section_that_the_page_knows():
    assert {registered.section for registered in TABLES.values()} <= {key for key, _ in SECTIONS}


def test_the_page_shows_the_tables_of_every_section():
    shown = " ".join(re.findall(r"show_all\((.*?)\)", part("template.html.j2")))
    for key, _ in SECTIONS:
        for place in ("tables", "tables_above"):
            assert f'{place}["{key}"]' in shown


def test_every_table_is_made_from_fields_of_its_own(small):
    """A key that is given twice is an error, so that a table that is made has none."""
    tables = all_tables(small)
    assert {table.name for table in tables} == set(TABLES) - {"sensitivity", "gradient_variance_shared"}
    for what in ("name", "title"):
        assert len({getattr(table, what) for table in tables}) == len(tables)
    for table in tables:
        titles = [column.title for column in table.columns]
        assert len(set(titles)) == len(titles)
        assert {len(row) for row in table.rows} == {len(titles)}
    places = [TABLES[table.name].place for table in tables]
    assert places == sorted(places)


def test_a_table_that_is_registered_is_in_the_page_and_among_the_files(tmp_path, made_up):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 1, replicates=0, rounds=2)
    page = build(path, ["html", "csv"]).read_text(encoding="utf-8")
    section = page.partition('<section id="throughput">')[2].partition("</section>")[0]
    assert "<caption>The slowest rounds</caption>" in section
    written = pd.read_csv(path / "report" / "tables" / "slowest_rounds.csv")
    assert list(written.columns) == ["estimator", "seconds"]
    assert list(written["estimator"]) == ["reparam", "stl"]
    seconds = load(path).throughput.groupby("estimator")["seconds"].max()
    assert written["seconds"].tolist() == pytest.approx(seconds[written["estimator"]].tolist())


def test_a_registered_table_may_be_registered_again_by_its_own_module(made_up):
    assert register_table(section="pairwise")(made_up) is made_up
    assert TABLES["slowest_rounds"].section == "pairwise"


def test_a_name_that_is_taken_and_an_unknown_section_are_errors():
    def summary(results):
        raise NotImplementedError

    with pytest.raises(EstbenchError, match="'summary' exists already"):
        register_table(section="summary")(summary)
    with pytest.raises(EstbenchError, match=r"no section 'sumary'.*'summary'"):
        register_table(section="sumary")


def test_a_table_of_another_name_than_its_function_is_an_error(small, monkeypatch):
    entry = registry.RegisteredTable(TABLES["cells"].make, "summary")
    monkeypatch.setattr(registry, "TABLES", {"elsewhere": entry})
    with pytest.raises(EstbenchError, match="'elsewhere' makes a table 'cells'"):
        all_tables(small)


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
    Field("rate", "rate", write=with_interval("{:.1f}".format, "rounds")),
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
        ["reparam", "1.0 [0.5, 2.0], n = 4 rounds", "3 a"],
        ["stl", "2.0 n = 2 rounds < 3: no interval", "5 b"],
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
