"""When a watched report is built again, and how its page asks to be loaded again."""

from __future__ import annotations

import itertools
import json

import pytest
from records import write_results

from estbench.report import build
from estbench.report.watch import changes, marks, refreshing


class Enough(Exception):  # noqa: N818
    """Ends a watch that has no end."""


@pytest.fixture
def folder(tmp_path):
    return write_results(tmp_path / "r", ["reparam"], 2, statuses={("reparam", 1): None}, replicates=0, rounds=0)


def watched(folder, happenings):
    """How many builds there had been at each look, while things happen between the looks."""
    builds, seen, left = 0, [], iter(happenings)

    def wait(seconds):
        assert seconds == 0.5
        seen.append(builds)
        happen = next(left, None)
        if happen is None:
            raise Enough
        happen()

    with pytest.raises(Enough):  # noqa: PT012
        for _ in changes([folder], 0.5, wait):
            builds += 1
    return seen


def test_a_report_is_built_at_once_and_at_each_change(folder):
    def nothing():
        pass

    def cell_ends():
        write_results(folder, ["reparam"], 2, replicates=0, rounds=0)

    def plan_grows():
        write_results(folder, ["stl"], 1, statuses={("stl", 0): None}, replicates=0, rounds=0)

    assert watched(folder, [nothing, nothing, cell_ends, nothing, plan_grows, nothing]) == [1, 1, 1, 2, 2, 3, 3]


def test_what_is_half_done_or_a_report_is_no_change(folder):
    def begun():
        partial = folder / "cells" / ".reparam-vae-s1-0.partial"
        partial.mkdir()
        (partial / "cell.json").write_text("{}", encoding="utf-8")

    def reported():
        (folder / "report").mkdir()
        (folder / "report" / "report.html").write_text("x", encoding="utf-8")

    assert watched(folder, [begun, reported]) == [1, 1, 1]


def test_a_change_during_the_build_is_not_lost(folder):
    looks = changes([folder], 0.5, wait=lambda _: None)
    next(looks)
    (record,) = folder.glob("cells/*/cell.json")  # ends while the first report is being built
    told = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({**told, "stop_reason": "longer"}), encoding="utf-8")
    assert next(looks) is None


def test_a_folder_that_is_not_there_has_no_marks(tmp_path):
    assert marks([tmp_path / "none"]) == ()


@pytest.mark.slow
def test_only_a_watched_page_refreshes(folder):
    plain = build(folder, ["html"]).read_bytes()
    assert b'http-equiv="refresh"' not in plain
    live = build(folder, ["html"], refresh=7).read_bytes()
    assert live.count(b'<meta http-equiv="refresh" content="7">') == 1
    assert live.index(b"refresh") < live.index(b"<title>")
    assert build(folder, ["html"]).read_bytes() == plain
    assert refreshing(b"<head><head>", 3).count(b"refresh") == 1
    assert list(itertools.islice(changes([folder], 1.0), 1)) == [None]
