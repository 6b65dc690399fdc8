"""``estbench site`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
import webbrowser

import pytest
from records import write_results

LIGHT = {"replicates": 0, "rounds": 0}


@pytest.fixture
def results(here):
    """A folder of results: two experiments, and one that is damaged."""
    write_results(here / "results" / "a", ["reparam", "stl"], 2, **LIGHT)
    write_results(here / "results" / "b", ["reparam"], 1, name="second", **LIGHT)
    write_results(here / "results" / "c", ["reparam"], 1, name="third", **LIGHT)
    (here / "results" / "c" / "experiment.json").write_text("{", encoding="utf-8")
    return here


def test_a_site_has_every_experiment_and_names_what_it_lacks(estbench, results):
    assert estbench("pack", "results/b", "-o", "results/b.zip").code == 0
    code, said, errors = estbench("site", "results/a", "results/b.zip", "results/c", "-o", "site", "--no-figures")
    assert estbench("site", "results", "-o", "other", "--no-figures", "--strict").code == 1
    assert (code, said) == (0, "site of 2 experiments: site/index.html\n")
    assert errors.startswith("Warning: left out: c: cannot read")
    page = (results / "site" / "index.html").read_text(encoding="utf-8")
    assert "2 experiments" in page
    assert not (results / "results" / "a" / "report").exists()
    listed = json.loads((results / "site" / "site.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in listed["experiments"]] == ["comparison", "second"]
    assert "SHA-256" in listed["experiments"][1]["from"][0]


def test_a_site_is_opened(estbench, results, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert estbench("site", "results/b", "-o", "site", "--no-figures", "--open").code == 0
    assert opened == [(results / "site" / "index.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder or archive 'nowhere'"),
        (["results/a/cells"], "no results in"),
        (["results/a", "-o", "results"], "was not written by `estbench site`"),
    ],
)
def test_misuse_is_one_line(refused, results, arguments, said):
    arguments = arguments if "-o" in arguments else [*arguments, "-o", "site"]
    assert said in refused("site", *arguments)
    assert not (results / "site").exists()


PLUGIN = """
from estbench.report import ESTIMATOR, Field, build_table, register_table


@register_table(section="completion")
def steps_of_mine(analysis):
    rows = analysis.cells.to_dict("records")
    return build_table("steps_of_mine", "Steps of mine", "", [ESTIMATOR, Field("step", "steps", write=str)], rows)
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_plugin_adds_a_table_in_every_process(results, jobs):
    """In a process of its own, whose registry nobody else sees."""
    (results / "mine.py").write_text(PLUGIN, encoding="utf-8")
    arguments = ["site", "results", "-o", "site", "--no-figures", "--plugin", "mine.py", "--jobs", jobs]
    subprocess.run([sys.executable, "-m", "estbench", *arguments], cwd=results, check=True, timeout=120)
    for name in ("a", "b"):
        page = results / "site" / "experiments" / name / "report.html"
        assert "Steps of mine" in page.read_text(encoding="utf-8")
