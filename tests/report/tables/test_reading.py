"""What people read in every table of every kind of experiment: each thing once, best first, nothing impossible."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from records import analyse, write_results

from estbench.report.analysis.wording import MINUS, NOTHING, TIMES, describe_common_problem, short_problems
from estbench.report.tables import all_tables
from estbench.report.tables.entry import Entry, format_interval
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank
from estbench.report.tables.registry import TABLES
from estbench.report.tables.targets import TARGETS
from estbench.stats import Interval

# Quantities that are never negative, by words of their names in CSV files, and estimates of some that may be.
POSITIVE = re.compile(r"seconds|variance|ratio|snr|memory|per_second|evaluations|active")
ESTIMATED = re.compile(r"data_variance|mean_norm2|bias2")
# Bounds at a cost, which are named by it.
BOUND = re.compile(r"bound|difference|elbo|ELBO|IWAE|behind")
# Numbers of which neither the large nor the small ones are best.
NEUTRAL = {"target", "seed", "steps", "variance of the minibatch", "learning_rate", "batch size"}
FIRST = "estimator"


def each(tables):
    """The tables with the kind of the experiment, for a message that says where."""
    return [(f"{kind}: {name}", table) for (kind, name), table in tables.items()]


def test_every_registered_table_is_among_them(tables):
    assert {name for _, name in tables} == set(TABLES)


def test_no_interval_of_what_is_never_negative_reaches_below_zero(tables):
    checked = 0
    for where, table in each(tables):
        for name in table.data.columns:
            other = ESTIMATED.search(name) or BOUND.search(name) or not name.endswith(("_low", "_high"))
            if POSITIVE.search(name) and not other:
                values = pd.to_numeric(table.data[name]).dropna()
                assert (values >= 0).all(), (where, name)
                checked += len(values)
    assert checked > 500


def test_nobody_reads_a_variance_or_a_time_below_zero(tables):
    for where, table in each(tables):
        for at, column in enumerate(table.columns):
            if re.search(r"variance|second|ms\b|SNR|time|relative", column.title) and not BOUND.search(column.title):
                for row in table.rows:
                    assert not row[at].text.startswith(MINUS), (where, column.title, row[at])
                    assert f"[{MINUS}" not in row[at].note, (where, column.title, row[at])


def test_an_estimate_below_zero_is_shown_as_zero_and_explained(tables):
    table = tables["wild", "gradient_variance"]
    (at,) = [at for at, column in enumerate(table.columns) if column.title == "variance of the minibatch"]
    assert (table.data["data_variance"] < 0).any()
    assert "0" in {row[at].text for row in table.rows}
    assert "may fall below zero; it is shown as 0" in table.caption
    assert "below zero" not in tables["many", "gradient_variance"].caption


def test_n_is_said_once(tables):
    for where, table in each(tables):
        usual = dict(re.findall(r"(\d+) (seed|round|draw)s?\b", table.caption.partition("n = ")[2].partition(".")[0]))
        usual = {unit: int(n) for n, unit in usual.items()}
        for entry in itertools.chain(*table.rows):
            assert "n = " not in entry.note, (where, entry)
            said = re.search(r"(\d+) (seed|round|draw)s?$", entry.note)
            assert bool(said) == bool(entry.n and entry.n != usual[entry.unit]), (where, entry)
            if said:
                assert (int(said[1]), said[2]) == (entry.n, entry.unit), (where, entry)
                assert "unless a row says otherwise" in table.caption
        assert table.caption.count("n = ") <= 1, where


def test_no_column_says_the_same_in_every_row(tables):
    for where, table in each(tables):
        if len(table.rows) < 2 or table.name == "completion":
            continue
        for at, column in enumerate(table.columns):
            texts = {str(row[at]) for row in table.rows}
            measured = any(row[at].n or row[at].note.startswith("[") for row in table.rows)
            assert len(texts) > 1 or column.head or measured or column.title in {"rank", "test ELBO", *NEUTRAL}, (
                where,
                column.title,
            )
            assert {row[at].text for row in table.rows} != {NOTHING}, (where, column.title)


def test_what_is_dropped_is_said_in_the_caption_and_stays_in_the_csv(tables):
    summary = tables["many", "summary"]
    assert "runs done: 3 of 3" in summary.caption
    assert "runs done" not in [column.title for column in summary.columns]
    assert {"planned", "done", "diverged", "evaluations"} <= set(summary.data.columns)
    throughput = tables["many", "throughput"]
    assert "batch size: 100" in throughput.caption
    assert "batch_size" in throughput.data.columns


def test_the_relative_cost_is_shown_only_if_there_is_one(tables, tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "reinforce"], 3, replicates=0)  # reinforce meets no target
    without = next(table for table in all_tables(analyse(path)) if table.name == "time_to_target")
    for where, table in [("none", without), *each(tables)]:
        if table.name == "time_to_target":
            relative = [at for at, column in enumerate(table.columns) if "relative" in column.title]
            assert len(relative) == (where != "none")
            for at in relative:
                assert {row[at].text for row in table.rows} - {NOTHING, "reference"}, where


def test_a_column_without_values_is_dropped_though_it_has_intervals():
    absent = Interval(math.nan, math.nan, math.nan, 0)
    rows = [{"estimator": name, "a": absent, "b": Interval(1.0, 0.5, 1.5, 3)} for name in ("x", "y")]
    fields = [
        ESTIMATOR,
        *(
            Field(key, key, write=lambda of: format_interval(of, lambda v: NOTHING if math.isnan(v) else f"{v:.1f}"))
            for key in "ab"
        ),
    ]
    table = build_table("t", "T", "C.", fields, rows)
    assert [column.title for column in table.columns] == ["estimator", "b"]
    assert table.caption == "C. n = 3 seeds. Without a value in every row: a."
    assert list(table.data.columns) == [
        "estimator",
        *(f"{key}{end}" for key in "ab" for end in ("", "_low", "_high", "_n")),
    ]


def test_one_row_keeps_its_columns():
    table = build_table("t", "T", "C.", [ESTIMATOR, Field("a", "a")], [{"estimator": "x", "a": 1}])
    assert [column.title for column in table.columns] == ["estimator", "a"]


def test_every_numeric_column_says_which_numbers_are_best(tables):
    for where, table in each(tables):
        for column in table.columns:
            assert column.best in {"", "high", "low"}
            if column.numeric and column.title not in NEUTRAL:
                assert column.best, (where, column.title)


def test_the_rows_of_every_block_stand_in_the_order_of_rank(analyses, tables):
    for (kind, name), table in tables.items():
        if table.columns[0].title != FIRST and name != "ranking":
            continue  # pairs are sorted by their difference
        ranks = {problem: order_by_rank(analyses[kind], problem) for problem in analyses[kind].problems}
        problems = short_problems(analyses[kind].problems)
        starts = [0, *sorted(table.rules), len(table.rows)]
        titles = [column.title for column in table.columns]
        for start, end in itertools.pairwise(starts):
            block = [dict(zip(titles, row, strict=True)) for row in table.rows[start:end]]
            problem = next(
                (
                    label
                    for label, short in problems.items()
                    if "problem" in block[0] and block[0]["problem"].text == short
                ),
                analyses[kind].problems[0],
            )
            order = [label.partition("[learning_rate")[0] for label in ranks[problem]]
            places = [order.index(row[FIRST].text) for row in block]
            assert places == sorted(places), (kind, name)


def test_pairs_are_sorted_by_their_difference_with_the_better_one_first(tables):
    table = tables["many", "pairwise"]
    titles = [column.title for column in table.columns]
    differences = [
        float(row[titles.index("difference in test ELBO")].text.rstrip(" *").replace(",", "")) for row in table.rows
    ]
    assert differences == sorted(differences, reverse=True)
    assert min(differences) >= 0
    assert len(table.rows) == math.comb(12, 2)
    assert len(table.data) == 2 * len(table.rows)
    found = table.data.set_index(["estimator", "other"])["difference"]
    for row in table.rows[:10]:
        assert found[row[0].text, row[1].text] > 0


def test_problems_are_named_by_what_differs(analyses, tables):
    labels = analyses["problems"].problems
    shown = 0
    for (kind, _), table in tables.items():
        titles = [column.title for column in table.columns]
        assert ("problem" in titles) <= (kind == "problems")
        if "problem" in titles:
            texts = {row[titles.index("problem")].text for row in table.rows}
            assert texts == set(short_problems(labels).values()) == {"K = 5", "K = 50"}
            assert table.caption.count(describe_common_problem(labels)) == 1
            assert set(table.data["problem"]) == set(labels)
            shown += 1
    assert shown >= 8


@pytest.mark.parametrize("name", ["gradient_variance", "gradient_variance_shared"])
def test_a_group_without_variance_is_left_out_and_named_once(tables, name):
    table = tables["wild", name]
    assert "prior" in set(table.data["group"])
    assert not any("prior" in entry.text for entry in itertools.chain(*table.rows))
    assert table.caption.count("Left out, because its variance is always 0: prior (weights).") == 1
    assert "Left out" not in tables["many", "gradient_variance"].caption


def test_medians_and_ratios_of_targets_are_those_of_the_runs(tables):
    for kind in ("broken", "many", "problems", "wild"):
        costs = tables[kind, "time_to_target"].data
        runs = tables[kind, "first_crossings"].data.set_index(["problem", "target", "estimator"]).sort_index()
        ratios = 0
        for row in costs.to_dict("records"):
            mine = runs.loc[(row["problem"], row["target"], row["estimator"])]
            assert row["cells"] == len(mine)
            assert row["reached"] == np.isfinite(mine["step"]).sum()
            for currency in ("step", "evaluations", "seconds"):
                assert row[currency] == pytest.approx(mine[currency].median())
                assert row[f"{currency}_high"] == pytest.approx(mine[f"{currency}_high"].median())
            if row["estimator"] != "reparam" and math.isfinite(row["cost_ratio"]):
                theirs = runs.loc[(row["problem"], row["target"], "reparam")].set_index("seed")["seconds"]
                pairs = (mine.set_index("seed")["seconds"] / theirs).dropna()
                assert row["cost_ratio"] == pytest.approx(scipy.stats.gmean(pairs))
                ratios += 1
        assert ratios


def test_no_target_was_met_before_training_nor_by_a_run_that_collapsed(analyses, tables):
    starts = analyses["wild"].results.curves.query("step == 0 and split == 'test' and metric == 'elbo'")["value"]
    runs = tables["wild", "first_crossings"].data
    assert runs["target"].min() > starts.max()
    collapsed = runs[runs["estimator"].str.startswith("reinforce")]
    assert len(collapsed)
    assert np.isinf(collapsed["step"]).all()
    best = tables["wild", "ranking"].data.query("rank == 1")["bound"].item()
    assert set(runs["target"]) <= {best - gap for gap in (1, 5, 20)}
    assert TARGETS in tables["wild", "time_to_target"].caption


def test_the_difference_and_the_bold_bound_are_those_of_the_bound_that_judges(tables):
    table = tables["problems", "summary"]
    assert set(table.data["difference_of"]) == {"iwae"}
    titles = [column.title for column in table.columns]
    bold = {title for row in table.rows for title, entry in zip(titles, row, strict=True) if entry.best}
    assert bold == {title for title in titles if "IWAE" in title}


def test_captions_are_short_sentences_without_the_words_of_the_code(tables):
    for where, table in each(tables):
        words = (table.title + " " + table.caption).replace("`estbench check`", "")
        assert not re.search(r"\bcells?\b|calls? of f|U-statistic|factor of the cheapest", words), where
        for sentence in re.split(r"[.:;] ", words.partition("The same in every row")[0]):
            assert len(sentence.split()) <= 40, (where, sentence)


@pytest.mark.parametrize(
    ("interval", "short"),
    [
        (Interval(-121.04, -121.36, -120.72, 5), "-121.0 ± 0.3"),
        (Interval(4.0, 2.0, 8.0, 5), f"4.0 {TIMES}/÷ 2"),
        (Interval(1.0, -1.0, 9.0, 5), "1.0 [-1.0, 9.0]"),
        (Interval(5.0, 4.98, 5.02, 5), "5.0 ± 0.0200"),
        (Interval(5.0, 5.0, 5.0, 5), "5.0 ± 0.0"),
        (Interval(5.0, math.nan, math.nan, 2), ""),
    ],
    ids=str,
)
def test_the_short_form_of_an_interval(interval, short):
    assert format_interval(interval, "{:.1f}".format).short == short


def test_the_power_of_ten_of_a_short_form_is_said_once():
    entry = format_interval(Interval(2.5e5, 2.2e5, 2.8e5, 5), lambda value: f"{value / 1e5:.2f}e5")
    assert entry == Entry("2.50e5", "[2.20e5, 2.80e5]", short="(2.50 ± 0.30)e5", n=5)
