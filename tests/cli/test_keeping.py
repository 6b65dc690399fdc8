"""Keeping results: merge, clean, and the status of a plan too long to read."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from records import write_results

from estbench.cli import status as status_module
from estbench.store import load
from estbench.store.lock import one_run

LIGHT = {"replicates": 0, "rounds": 0}


@pytest.fixture
def parts(here):
    return [write_results(here / name, ["reparam", "stl"], [seed], **LIGHT) for seed, name in enumerate("ab")]


def test_merge_says_what_there_is_now(estbench, parts):
    code, said, errors = estbench("merge", "a", "b", "-o", "c")
    assert (code, errors) == (0, "")
    assert said == "c: 4 of 4 runs done.\n"
    assert sorted(load("c").cells["seed"]) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a", "b"], "Missing option '-o' / '--out'"),
        (["-o", "c"], "Missing argument"),
        (["a", "none", "-o", "c"], "'none' is no results folder"),
        (["a", "b", "-o", "a"], "'a' exists already; name a new folder with -o"),
    ],
)
def test_a_mistake_in_a_merge(refused, parts, arguments, complaint):
    assert complaint in refused("merge", *arguments)


@pytest.fixture
def leftover(parts):
    path = parts[0] / ".throughput.parquet.00112233aabbccdd.tmp"
    path.write_text("half")
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path


def test_clean_asks_first(estbench, leftover, monkeypatch):
    asked = []
    for answer in (False, True):
        monkeypatch.setattr("click.confirm", lambda text, answer=answer, **_: asked.append(text) or answer)
        monkeypatch.setattr("rich_click.confirm", lambda text, answer=answer, **_: asked.append(text) or answer)
        code, said, errors = estbench("clean", "a")
        assert (code, errors) == (0, "")
        assert ".throughput.parquet.00112233aabbccdd.tmp" in said
        assert ("removed 1, 4 bytes" if answer else "nothing removed") in said
        assert leftover.exists() != answer
    assert asked == ["Remove it?"] * 2
    assert estbench("clean", "a").out == "nothing to remove\n"


def test_clean_does_not_take_silence_for_a_yes(estbench, leftover, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, errors = estbench("clean", "a")
    assert code == 2
    assert "nothing removed: there is no terminal" in errors
    assert leftover.exists()


def test_clean_without_asking(estbench, leftover):
    assert estbench("clean", "a", "--yes").code == 0
    assert not leftover.exists()


def test_clean_needs_a_results_folder(refused):
    assert "'none' is no results folder" in refused("clean", "none", "--yes")


def test_the_status_of_many_cells_is_counted(estbench, here, monkeypatch):
    monkeypatch.setattr(status_module, "MOST_LINES", 5)
    write_results(here / "r", ["reparam", "stl"], 3, statuses={("stl", 1): None, ("stl", 2): "failed"}, **LIGHT)
    code, said, _ = estbench("status", "r")
    assert code == 0
    assert "3 done" in said
    assert "1 done, 1 missing, 1 failed" in said
    assert "6 planned: 4 done, 1 missing, 1 failed" in said
    assert len(json.loads(estbench("status", "r", "--json").out)["cells"]) == 6


def test_the_status_of_a_sweep_tells_the_settings(estbench, here):
    write_results(here / "r", ["reparam"], 1, sweep={"learning_rate": [0.25, 0.5]}, **LIGHT)
    code, said, _ = estbench("status", "r")
    assert code == 0
    assert "learning_rate" in said
    assert "  0.25\n" in said
    assert [cell["learning_rate"] for cell in json.loads(estbench("status", "r", "--json").out)["cells"]] == [0.25, 0.5]


def test_clean_does_not_disturb_a_run(refused, leftover):
    with one_run(Path("a")):
        assert "another run is at work" in refused("clean", "a", "--yes")
    assert Path("a").is_dir()
