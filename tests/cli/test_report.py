"""``estbench report`` as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import webbrowser

import pytest
from records import write_results

LIGHT = {"replicates": 0, "rounds": 0}
REFRESH = 'http-equiv="refresh"'


@pytest.fixture
def pair(here):
    """Two folders of one protocol with one cell in common."""
    write_results(here / "a", ["reparam"], 2, **LIGHT)
    write_results(here / "b", ["reparam", "stl"], 1, **LIGHT)
    return here


@pytest.mark.slow
def test_several_folders_make_one_page(estbench, pair):
    code, said, errors = estbench("report", "a", "b")
    assert (code, errors) == (0, "")
    assert "report: a/report/report.html" in said
    assert "stl" in said
    assert "3 of 3 runs done." in (pair / "a" / "report" / "report.html").read_text(encoding="utf-8")
    assert not (pair / "b" / "report").exists()


def test_out_is_where_it_goes(estbench, pair):
    code, said, _ = estbench("report", "a", "b", "--out", "both", "--format", "md,csv")
    assert code == 0
    assert "report: both" in said
    assert {path.suffix for path in (pair / "both").rglob("*") if path.is_file()} == {".md", ".csv", ".json"}
    assert not (pair / "a" / "report").exists()


PLUGIN = """
from estbench.report.tables import register_table
from estbench.report.tables.fields import ESTIMATOR, Field, build_table


@register_table(section="completion")
def steps(analysis):
    rows = analysis.cells.to_dict("records")
    return build_table("steps", "Steps of each cell", "", [ESTIMATOR, Field("step", "steps", write=str)], rows)
"""


@pytest.mark.slow
def test_a_plugin_adds_a_table(pair):
    """In a process of its own, whose registry nobody else sees."""
    (pair / "steps.py").write_text(PLUGIN, encoding="utf-8")
    arguments = ["report", "a", "--plugin", "steps.py", "--format", "html,md"]
    subprocess.run([sys.executable, "-m", "estbench", *arguments], cwd=pair, check=True, timeout=120)
    assert "Steps of each cell" in (pair / "a" / "report" / "report.html").read_text(encoding="utf-8")
    assert "2000" in (pair / "a" / "report" / "tables" / "steps.md").read_text(encoding="utf-8")


def test_conflicting_folders_are_refused(refused, pair):
    for record in (pair / "b").glob("cells/reparam-*/cell.json"):
        told = json.loads(record.read_text(encoding="utf-8"))
        record.write_text(json.dumps({**told, "status": "timeout"}), encoding="utf-8")
    message = refused("report", "a", "b")
    assert "'a/cells/reparam-vae-s0-" in message
    assert "'b/cells/reparam-vae-s0-" in message


def test_different_protocols_are_refused(refused, pair):
    write_results(pair / "c", ["stl"], 1, training={"steps": 7}, **LIGHT)
    assert "training.steps is 2000 in 'a' and 7 in 'c'" in refused("report", "a", "c")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "docx"], "unknown format 'docx'"),
        (["--format", ""], "no format is named"),
        (["--width", "1"], "3 to 20 inches wide, not 1"),
        (["--width", "nan"], "3 to 20 inches wide, not nan"),
        (["--open", "--format", "csv"], "no page to open"),
        (["--watch", "--interval", "0"], "takes 0.1 to 3600 seconds"),
        (["--watch", "--interval", "nan"], "takes 0.1 to 3600 seconds"),
    ],
)
def test_misuse_is_refused(refused, pair, arguments, said):
    assert said in refused("report", "a", *arguments)


def test_a_missing_extra_is_named_and_nothing_is_written(refused, pair, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "pip install 'estbench[tensorboard]'" in refused("report", "a", "--tensorboard")


def test_tensorboard_files_lie_in_the_report(estbench, pair):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    assert estbench("report", "a", "b", "--tensorboard", "--format", "md").code == 0
    assert len([*(pair / "a" / "report" / "tensorboard").glob("*/*tfevents*")]) == 3


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.usefixtures("quick_report")
def test_open_shows_the_page(estbench, pair, monkeypatch, there):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or there)
    code, _, errors = estbench("report", "a", "--open")
    assert code == 0
    assert opened == [(pair / "a" / "report" / "report.html").resolve().as_uri()]
    assert ("found no browser; open a/report/report.html" in errors) is not there


def wait_for(condition, seconds=60.0):
    """Wait until something is so; fail where it never is."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_watched_report_follows_the_cells_and_settles_at_ctrl_c(here, environment):
    write_results(here / "r", ["reparam"], 2, statuses={("reparam", 1): None}, **LIGHT)
    page = here / "r" / "report" / "report.html"
    command = [sys.executable, "-m", "estbench", "report", "--watch", "--interval", "0.1", "--format", "html", "r"]
    watching = subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def page_says(words):
        return page.is_file() and words in page.read_text(encoding="utf-8")

    try:
        wait_for(lambda: page_says("1 of 2 runs done; 1 missing."))
        assert page_says(REFRESH)
        write_results(here / "r", ["reparam"], 2, **LIGHT)
        wait_for(lambda: page_says("2 of 2 runs done."))
        assert page_says(REFRESH)
        os.kill(watching.pid, signal.SIGINT)
        said, errors = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert (watching.returncode, errors) == (0, "")
    assert "report: r/report/report.html" in said
    assert page_says("2 of 2 runs done.")
    assert not page_says(REFRESH)


@pytest.mark.slow
def test_a_watch_outlives_a_folder_that_cannot_be_read_just_now(estbench, pair, monkeypatch):
    from estbench.report import watch

    def looks(folders, interval):
        yield
        plan = (pair / "a" / "experiment.json").read_text(encoding="utf-8")
        (pair / "a" / "experiment.json").write_text("{", encoding="utf-8")
        yield
        (pair / "a" / "experiment.json").write_text(plan, encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "changes", looks)
    code, said, errors = estbench("report", "--watch", "a", "--format", "html")
    assert (code, errors) == (0, "")
    assert "2 of 2 runs done." in said
    assert "not rebuilt: cannot read 'a/experiment.json'" in said
    assert REFRESH not in (pair / "a" / "report" / "report.html").read_text(encoding="utf-8")
