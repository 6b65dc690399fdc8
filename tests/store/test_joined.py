"""Folders of several machines written as one."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from records import write_results

from estbench import EstbenchError
from estbench.store import join, load, load_many

TWO = ["reparam", "stl"]
LIGHT = {"replicates": 5, "rounds": 2}


def snapshot(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def parts(tmp_path):
    return [write_results(tmp_path / name, TWO, [seed], **LIGHT) for seed, name in enumerate("ab")]


def test_the_new_folder_is_what_the_others_are_together(parts, tmp_path):
    before = [snapshot(path) for path in parts]
    made, merged = join(parts, tmp_path / "c"), load_many(parts)
    assert made.path == tmp_path / "c"
    assert made.others == ()
    for name in ("cells", "curves", "gradients", "throughput"):
        pd.testing.assert_frame_equal(getattr(made, name), getattr(merged, name))
    assert [snapshot(path) for path in parts] == before
    for path in parts:
        for name, content in snapshot(path / "cells").items():
            assert (tmp_path / "c" / "cells" / name).read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_what_is_joined_can_be_joined_again(parts, tmp_path):
    join(parts, tmp_path / "c")
    again = join([tmp_path / "c", *parts], tmp_path / "d")
    pd.testing.assert_frame_equal(again.throughput, load(tmp_path / "c").throughput)
    assert snapshot(tmp_path / "d") == snapshot(tmp_path / "c")


def test_every_conflict_is_listed_and_nothing_is_written(tmp_path):
    parts = [write_results(tmp_path / name, TWO, 2, **LIGHT) for name in "ab"]
    for file in (parts[1] / "cells").glob("*-s1-*/cell.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "step": 7}))
    with pytest.raises(EstbenchError) as caught:
        join(parts, tmp_path / "c")
    message = str(caught.value)
    assert message.count("is in two folders with different content") == 2
    for label in TWO:
        assert f"({label}, seed 1)" in message
    assert "step is 2000 in the first and 7 in the second" in message
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_folder_that_is_there_is_not_touched(parts, tmp_path):
    (tmp_path / "empty").mkdir()
    join(parts, tmp_path / "empty")
    before = snapshot(tmp_path)
    (tmp_path / "file").write_text("mine")
    for out in ("a", "empty", "file"):
        with pytest.raises(EstbenchError, match="exists already; name a new folder"):
            join(parts, tmp_path / out)
    (tmp_path / "file").unlink()
    assert snapshot(tmp_path) == before


def test_a_link_among_the_files_is_refused(parts, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (cell,) = (parts[1] / "cells").glob("stl-*")
    (cell / "checkpoint.pt").symlink_to(tmp_path / "secret")
    with pytest.raises(EstbenchError, match=r"checkpoint\.pt' is a symbolic link"):
        join(parts, tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "secret"}


def test_sweeps_join_their_values(tmp_path):
    parts = [
        write_results(tmp_path / name, TWO, 1, sweep={"learning_rate": rates}, **LIGHT)
        for name, rates in {"a": [0.001, 0.01], "b": [0.01, 0.1]}.items()
    ]
    made = join(parts, tmp_path / "c")
    assert made.sweep == {"learning_rate": [0.001, 0.01, 0.1]}
    assert sorted(made.cells["learning_rate"]) == [0.001, 0.001, 0.01, 0.01, 0.1, 0.1]
    plain = write_results(tmp_path / "d", TWO, 1, **LIGHT)
    with pytest.raises(EstbenchError, match=r"training\.learning_rate is swept in .* and 0\.001 in"):
        load_many([parts[0], plain])
