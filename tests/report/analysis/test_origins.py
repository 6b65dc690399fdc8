"""Results of several folders, archives and machines: where each run came from, and what is not compared."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from records import write_results

from estbench.certify.record import CheckOutcome, shipped_certificates
from estbench.report.analysis import Analysis
from estbench.report.analysis.leaderboard import timings_of_one_place
from estbench.report.analysis.origins import BROUGHT
from estbench.report.tables.origins import origins
from estbench.report.tables.ranking import ranking
from estbench.store import ResultsFolder, load, load_many
from estbench.store.files import read_json, write_json
from estbench.store.pack import pack
from estbench.store.tables import THROUGHPUT, read_arrow, write_arrow

ELSEWHERE = {"machine": "m-2", "commit": "feedbeef", "torch": "2.12.0"}
MINE = "a" * 64


def move(path, machine, session):
    """Let the rounds of a folder be of another machine and time."""
    file = ResultsFolder(path).throughput_file
    table = read_arrow(file, THROUGHPUT)
    for name, value in {"machine": machine, "session": session}.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([value] * len(table)))
    write_arrow(file, table)


def claim(path, label, status, fingerprint):
    """Let the records of an estimator name a certificate."""
    for file in ResultsFolder(path).cells.iterdir():
        record = read_json(file / "cell.json")
        if record["cell"]["estimator"]["label"] == label:
            write_json(file / "cell.json", record | {"certificate": {"status": status, "fingerprint": fingerprint}})


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder, and an archive of a stranger that adds an estimator and has a reference of its own."""
    root = tmp_path_factory.mktemp("origins")
    options = {"replicates": 10, "rounds": 3, "shared": True}
    write_results(root / "ours", ["reparam", "stl", "reinforce"], 3, **options)
    away = dict.fromkeys(range(3), ELSEWHERE)
    write_results(root / "theirs", ["reparam", "rloo[num_samples=4]"], 3, environments=away, **options)
    move(root / "theirs", "m-2", "2025-02-01T00:00:00")
    claim(root / "ours", "stl", "passed", shipped_certificates()["stl"].fingerprint)
    claim(root / "theirs", "rloo[num_samples=4]", "passed", MINE)
    rloo = shipped_certificates()["rloo"].model_copy(update={"label": "rloo[num_samples=4]", "fingerprint": MINE})
    assert rloo.outcome is CheckOutcome.PASSED
    own = ResultsFolder(root / "theirs").certificates
    own.mkdir()
    write_json(own / "mine.json", rloo.model_dump(mode="json"))
    pack([root / "theirs"], root / "theirs.zip")
    return root


@pytest.fixture(scope="module")
def analysis(both):
    return Analysis(load_many([both / "ours", both / "theirs.zip"]))


def test_each_run_has_its_source(analysis, both):
    ours, theirs = analysis.origins
    assert (ours.source, ours.runs, ours.digest) == ("ours", 9, "")
    assert (theirs.source, theirs.runs) == ("theirs.zip", 3)  # its reference is the same as ours, and counts once
    assert theirs.estimators == ["rloo[num_samples=4]"]
    assert len(theirs.digest) == 64
    assert theirs.environment["machine"] == "m-2"
    assert theirs.environment["commit"] == "feedbeef"
    shown = origins(analysis)
    assert list(shown.data["sha256"]) == ["", theirs.digest]
    assert list(shown.data["torch"]) == ["2.13.0", "2.12.0"]
    assert any("ours (9 runs) and theirs.zip (3 runs)" in notice for notice in analysis.notices)
    by_estimator = {row.estimator: row.sources for row in ranking(analysis).data.itertuples()}
    assert by_estimator["stl"] == "ours"
    assert by_estimator["rloo[num_samples=4]"] == "theirs.zip"


def test_certificates_are_those_of_the_source_of_the_runs(analysis, both):
    ours, theirs = analysis.origins
    assert ours.certificates == {"reparam": "none", "stl": "passed", "reinforce": "none"}
    assert theirs.certificates == {"rloo[num_samples=4]": BROUGHT}
    claim(both / "theirs", "rloo[num_samples=4]", "passed", "b" * 64)  # of another source than its certificate
    pack([both / "theirs"], both / "changed.zip")
    (changed,) = Analysis(load(both / "changed.zip")).origins
    assert changed.certificates["rloo[num_samples=4]"] == "claimed by the record"


def test_seconds_of_two_machines_are_never_side_by_side(analysis):
    (board,) = analysis.leaderboards
    seconds = {entrant.estimator: entrant.seconds.n for entrant in board.entrants}
    assert seconds == {"reparam": 3, "stl": 3, "reinforce": 3, "rloo[num_samples=4]": 0}
    assert "seconds" not in {each.currency for each in analysis.rankings[board.problem]}
    assert "only of the machine that timed most" in ranking(analysis).caption


def test_bounds_and_variances_travel(analysis):
    (board,) = analysis.leaderboards
    rloo = next(entrant for entrant in board.entrants if entrant.estimator.startswith("rloo"))
    assert rloo.rank == 3
    assert (rloo.pairs, rloo.variance.n, board.trajectory) == (3, 3, "shared")
    assert not math.isnan(rloo.gap.p)


def test_the_machine_that_timed_most_is_the_one(both):
    turned = Analysis(load_many([both / "theirs.zip", both / "ours"]))
    assert set(timings_of_one_place(turned, "vae")["machine"]) == {"m-1"}
    alone = Analysis(load(both / "theirs"))
    assert set(timings_of_one_place(alone, "vae")["machine"]) == {"m-2"}


def test_one_folder_made_at_once_has_no_table(tmp_path):
    write_results(tmp_path / "one", ["reparam"], 2, replicates=0, rounds=0)
    one = Analysis(load(tmp_path / "one"))
    assert len(one.origins) == 1
    assert origins(one).rows == ()
    assert "sources" not in ranking(one).data
