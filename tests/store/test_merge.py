"""Several folders as one: what agrees counts once, what contradicts is refused with both named."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from records import ENVIRONMENT, codes, throughput_rows, write_results

from estbench import EstbenchError
from estbench.experiment.spec import experiment_from
from estbench.store import ResultsFolder, load, load_many, merge
from estbench.store.tables import CURVES, GRADIENTS, read_rows, write_table

TWO = ["reparam", "stl"]
LIGHT = {"replicates": 5, "rounds": 2}


def folders(tmp_path, first, second):
    """Two folders, each written with its own options."""
    return [
        write_results(tmp_path / name, **{"estimators": TWO, "seeds": 2, **LIGHT, **options})
        for name, options in {"a": first, "b": second}.items()
    ]


def change_record(path, change):
    """Change a cell.json of each cell of a folder."""
    for file in path.glob("cells/*/cell.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        change(record)
        file.write_text(json.dumps(record), encoding="utf-8")


def change_rows(path, file, schema, change):
    for table in sorted(path.glob(f"cells/*/{file}")):
        rows = read_rows(table, schema)
        change(rows)
        write_table(table, rows, schema)


def refused(paths):
    with pytest.raises(EstbenchError) as caught:
        load_many(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_folder_is_itself(tmp_path):
    path, _ = folders(tmp_path, {}, {})
    merged, alone = load_many([path]), load(path)
    assert merged == alone
    assert merged.others == ()


def test_no_folder_is_an_error():
    with pytest.raises(EstbenchError, match="no results to merge"):
        merge([])


def test_parts_of_one_experiment_are_the_whole(tmp_path):
    """Estimators in one folder, one more in another, further seeds in a third: as if run in one go."""
    a = write_results(tmp_path / "a", TWO, [0, 1], **LIGHT)
    b = write_results(tmp_path / "b", ["detached"], [0, 1], **LIGHT)
    c = write_results(tmp_path / "c", [*TWO, "detached"], [2], **LIGHT)
    whole = load(write_results(tmp_path / "whole", [*TWO, "detached"], 3, **LIGHT))
    merged = load_many([a, b, c])
    order = ["problem", "estimator", "seed"]
    assert len(merged.cells) == len(whole.cells) == 9
    for name in ("cells", "curves", "gradients"):
        ours, theirs = getattr(merged, name), getattr(whole, name)
        assert list(ours.columns) == list(theirs.columns)
        pd.testing.assert_frame_equal(
            ours.sort_values(order, kind="stable", ignore_index=True),
            theirs.sort_values(order, kind="stable", ignore_index=True),
        )
    assert merged.path == a
    assert merged.others == (b, c)
    assert merged.home(merged.cells["folder"].iloc[-1]).folder.root == c


def test_what_both_have_counts_once(tmp_path):
    paths = folders(tmp_path, {}, {})
    merged, alone = load_many(paths), load(paths[0])
    for name in ("cells", "curves", "gradients", "throughput"):
        pd.testing.assert_frame_equal(getattr(merged, name), getattr(alone, name))
    assert len(load_many([paths[0], *paths]).throughput) == len(alone.throughput)


def test_a_missing_cell_is_taken_from_where_it_is(tmp_path):
    paths = folders(tmp_path, {"statuses": {("stl", 1): None}}, {"statuses": {("reparam", 0): None}})
    assert [sorted(load(path).cells["status"]) for path in paths] == [["done"] * 3 + ["missing"]] * 2
    for order in (paths, paths[::-1]):
        merged = load_many(order)
        assert merged.cells["status"].tolist() == ["done"] * 4
        assert merged.curves.groupby(["estimator", "seed"]).ngroups == 4


def test_merging_merged_results_is_the_same(tmp_path):
    a, b = folders(tmp_path, {"seeds": [0]}, {"seeds": [1]})
    c = write_results(tmp_path / "c", TWO, [2], **LIGHT)
    nested, flat = merge([merge([load(a), load(b)]), load(c)]), load_many([a, b, c])
    assert nested.others == flat.others
    pd.testing.assert_frame_equal(nested.curves, flat.curves)
    pd.testing.assert_frame_equal(nested.throughput, flat.throughput)


def test_wall_clock_and_machine_are_no_conflict(tmp_path):
    paths = folders(tmp_path, {}, {"environments": {seed: {"machine": "other"} for seed in range(2)}})

    def later(record):
        record["clocks"]["training"] *= 3
        record["started"] = "2026-01-01T00:00:00"

    def slower(rows):
        for row in rows:
            row["seconds"] *= 3

    change_record(paths[1], later)
    change_rows(paths[1], "curves.parquet", CURVES, slower)
    merged = load_many(paths)
    assert len(merged.cells) == 4
    assert {record["environment"]["machine"] for record in merged.records.values()} == {ENVIRONMENT["machine"]}
    pd.testing.assert_frame_equal(merged.curves, load(paths[0]).curves)


def test_nan_is_no_conflict(tmp_path):
    diverged = {"statuses": {("stl", 0): "diverged"}, "stops": {("stl", 0): 800}}
    merged = load_many(folders(tmp_path, diverged, diverged))
    assert merged.curves["value"].isna().any()
    assert "diverged" in set(merged.cells["status"])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"statuses": {("stl", 1): "failed"}}, "status is done in the first and failed in the second"),
        ({"stops": {("stl", 1): 1200}}, "step is 2000 in the first and 1200 in the second"),
    ],
)
def test_another_outcome_is_refused_with_both_named(tmp_path, second, said):
    a, b = folders(tmp_path, {}, second)
    message = refused([a, b])
    assert said in message
    assert "(stl, seed 1) is in two folders with different content" in message
    (cell,) = (path.name for path in a.glob("cells/stl-*-s1-*"))
    assert str(a / "cells" / cell) in message
    assert str(b / "cells" / cell) in message


@pytest.mark.parametrize(
    ("file", "schema"), [("curves", CURVES), ("gradients", GRADIENTS)], ids=["curves", "gradients"]
)
def test_another_number_is_refused(tmp_path, file, schema):
    a, b = folders(tmp_path, {}, {})

    def nudge(rows):
        rows[-1]["value"] = math.nextafter(rows[-1]["value"], math.inf)

    change_rows(b, f"{file}.parquet", schema, nudge)
    assert f"{file} differ in value; keep one of them" in refused([a, b])


def test_a_lost_row_is_refused(tmp_path):
    a, b = folders(tmp_path, {}, {})
    change_rows(b, "curves.parquet", CURVES, lambda rows: rows.pop())
    assert "curves differ in" in refused([a, b])


def test_protocols_are_not_mixed(tmp_path):
    a, b = folders(tmp_path, {}, {"training": {"steps": 1000, "learning_rate": 0.01}})
    message = refused([a, b])
    assert f"training.steps is 2000 in '{a}' and 1000 in '{b}'" in message
    assert "training.learning_rate is 0.001" in message
    assert "batch_size" not in message


def test_another_question_or_number_of_rounds_is_no_other_protocol(tmp_path):
    a, b = folders(tmp_path, {}, {"estimators": ["detached"], "question": "Another?", "rounds": 4})
    merged = load_many([a, b])
    assert len(merged.cells) == 6
    assert merged.plan["experiment"] == load(a).plan["experiment"]


def test_one_label_with_two_meanings_is_refused(tmp_path):
    a, b = folders(tmp_path, {}, {"estimators": ["reparam", "detached"], "labels": {"detached": "stl"}})
    message = refused([a, b])
    assert f"estimator 'stl' is not the same in both folders: its name is stl in '{a}' and detached in '{b}'" in message


def test_timings_keep_their_session_and_machine(tmp_path):
    a, b = folders(tmp_path, {}, {"rounds": 0})
    spec = experiment_from(load(b).plan["experiment"] | {"throughput": {"rounds": 3}})
    from records import behaviour

    known = {label: behaviour(label) for label in TWO}
    ResultsFolder(b).append_throughput(throughput_rows(spec, known, codes(b), "2026-01-01T00:00:00", "m-2"))
    rounds = load_many([a, b]).throughput
    assert rounds.groupby(["machine", "session"]).size().to_dict() == {
        ("m-1", "2025-01-01T00:00:00"): 4,
        ("m-2", "2026-01-01T00:00:00"): 6,
    }


def test_a_folder_that_is_none_is_named(tmp_path):
    a, _ = folders(tmp_path, {}, {})
    assert "no results folder" in refused([a, tmp_path / "none"])
