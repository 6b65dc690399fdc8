"""Runs on devices of different types have other noise for the same seed: they are shown together and never paired."""

from __future__ import annotations

import json

import pytest
from records import analyse, write_results

from estbench.report import build
from estbench.report.analysis.leaderboard import build_leaderboard
from estbench.report.analysis.notices import describe_limits
from estbench.report.analysis.paired import find_runs


def moved(folder, estimator, device):
    """Say in the records of an estimator that it ran on a device."""
    for path in folder.glob("cells/*/cell.json"):
        record = json.loads(path.read_text("utf-8"))
        if record["cell"]["estimator"]["label"] == estimator:
            record["environment"]["device"] = device
            path.write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    return write_results(tmp_path / "r", ("reparam", "stl", "reinforce[baseline=ema]"), 3)


def test_on_one_device_runs_are_paired_by_seed(folder):
    assert {*find_runs(analyse(folder))["vae"]["stl"]} == {0, 1, 2}
    assert not any("different types" in line for line in describe_limits(analyse(folder)))


def test_runs_of_another_device_have_no_partner(folder):
    moved(folder, "stl", "cuda")
    frames = analyse(folder)
    runs = find_runs(frames)["vae"]
    assert {*runs["stl"]} == {"0 on cuda", "1 on cuda", "2 on cuda"}
    assert {*runs["reparam"]} == {"0 on cpu", "1 on cpu", "2 on cpu"}
    board = {each.estimator: each for each in build_leaderboard(frames, "vae", runs).entrants}
    assert board["stl"].bound.n == 3
    pairs = {name: each.pairs for name, each in board.items() if each.rank > 1}
    assert sorted(pairs.values()) == [0, 0] or pairs.get("stl", 0) == 0
    assert any("different types (cpu, cuda)" in line for line in describe_limits(frames))


def test_runs_of_the_same_device_still_have_theirs(folder):
    for estimator in ("reparam", "stl"):
        moved(folder, estimator, "cuda")
    runs = find_runs(analyse(folder))["vae"]
    assert {*runs["stl"]} == {*runs["reparam"]}
    assert not {*runs["stl"]} & {*runs["reinforce[baseline=ema]"]}


@pytest.mark.slow
def test_a_report_of_both_is_built(folder):
    moved(folder, "stl", "cuda")
    page = build(folder, ["html"])
    assert "different types (cpu, cuda)" in page.read_text("utf-8")
