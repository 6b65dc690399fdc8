"""``estbench diff``: a table, Markdown, CSV and JSON, exit codes, and mistakes."""

from __future__ import annotations

import csv
import io
import json

import pytest
import records
from records import write_results

SHORT = {"evaluation": {"points": 2}, "probe": {"replicates": 10, "points": 2}}


@pytest.fixture
def two(here, monkeypatch):
    """Two results of the same runs; in the second, stl is worse."""
    write_results(here / "old", ["reparam", "stl"], 4, shared=True, **SHORT)
    worse = records.BEHAVIOURS["stl"]._replace(elbo=-125.0, variance=0.4)
    with monkeypatch.context() as patch:
        patch.setitem(records.BEHAVIOURS, "stl", worse)
        write_results(here / "new", ["reparam", "stl", "detached"], 4, shared=True, **SHORT)
    return here


def test_a_regression_is_told_and_is_the_exit_code(estbench, two):
    code, said, errors = estbench("diff", "old", "new")
    assert (code, errors) == (1, "")
    assert said.startswith("Regression: ")
    assert "4 of 8 paired runs have the same numbers, bit for bit." in said
    assert "test ELBO" in said
    assert "only in NEW: detached on vae (seeds 0, 1, 2, 3)" in said
    assert "Holm" in said


def test_the_same_results_are_no_regression(estbench, two):
    code, said, errors = estbench("diff", "old", "old")
    assert (code, errors) == (0, "")
    assert said == "No regression is shown.\nAll 8 paired runs have the same numbers, bit for bit.\n"


def test_a_margin_accepts_what_is_worse(estbench, two):
    code, said, _ = estbench("diff", "old", "new", "--margin", "bound=10", "--margin", "variance=50")
    assert code == 0
    assert said.startswith("No regression is shown.")
    assert "4 worse, and not shown to be beyond the margin" in said


def test_an_archive_is_compared_as_a_folder_is(estbench, two):
    assert estbench("pack", "old", "-o", "old.zip").code == 0
    code, said, _ = estbench("diff", "old.zip", "old")
    assert code == 0
    assert "All 8 paired runs have the same numbers" in said


def test_markdown_is_fit_for_a_comment(estbench, two):
    code, said, errors = estbench("diff", "old", "new", "--format", "md")
    assert (code, errors) == (1, "")
    assert said.startswith("### Regression")
    assert "| stl | test ELBO | regression |" in said
    assert "<details>" in said
    assert "only in NEW: detached" in said
    same = estbench("diff", "old", "old", "--format", "md").out
    assert "|" not in same


def test_markup_in_a_name_stays_text_in_markdown(estbench, here):
    for name in ("old", "new"):
        write_results(
            here / name, ["reparam", "stl"], 3, labels={"stl": "<img src=x>[a](b)"} if name == "new" else None
        )
    said = estbench("diff", "old", "new", "--format", "md").out
    assert "<img" not in said
    assert "](b)" not in said


def test_csv_has_every_number(estbench, two):
    rows = list(csv.DictReader(io.StringIO(estbench("diff", "old", "new", "--format", "csv").out)))
    assert {row["verdict"] for row in rows} == {"regression", "same numbers"}
    bound = next(row for row in rows if (row["estimator"], row["kind"]) == ("stl", "bound"))
    assert float(bound["new"]) - float(bound["old"]) == pytest.approx(float(bound["change"]))
    assert int(bound["change_n"]) == 4


def test_json_is_for_programs(estbench, two):
    code, said, errors = estbench("diff", "old", "new", "--json")
    answer = json.loads(said)
    assert (code, errors, answer["regression"]) == (1, "", True)
    assert answer["runs"] == {"paired": 8, "done": 8, "same": 4}
    assert answer["margins"] == {"bound": 0.1, "variance": 1.1, "seconds": None}
    assert "NaN" not in said


def test_mistakes_are_named(refused, here):
    write_results(here / "old", ["reparam"], 3)
    write_results(here / "short", ["reparam"], 3, training={"steps": 100})
    write_results(here / "stl", ["stl"], 3)
    assert "no run in common" in refused("diff", "old", "stl")
    assert "training.steps is 2000 in OLD and 100 in NEW" in refused("diff", "old", "short")
    assert "did you mean 'bound'" in refused("diff", "old", "old", "--margin", "bond=1")
    assert "QUANTITY=NUMBER" in refused("diff", "old", "old", "--margin", "0.5")
    assert "exclude each other" in refused("diff", "old", "old", "--json", "--format", "md")
    assert "nowhere" in refused("diff", "old", "nowhere")
