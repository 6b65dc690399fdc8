"""One results folder with everything in it, read once."""

from __future__ import annotations

import pytest
from records import drawn_alone, write_results

from estbench.report import build
from estbench.report.analysis import Analysis
from estbench.store import load

STATUSES = {("reinforce", 0): "diverged", ("stl", 3): None, ("detached", 1): "failed"}
STOPS = {("reinforce", 0): 800, ("detached", 1): 0}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Six estimators, four seeds; one cell diverged, one failed, one is missing. Figures are SVG, which is quick."""
    path = tmp_path_factory.mktemp("results") / "comparison"
    write_results(path, seeds=4, statuses=STATUSES, stops=STOPS, final_num_samples=1000)
    build(path, ["html", "csv", "md", "tex", "svg"])
    return path


@pytest.fixture
def one_figure():
    """Draw the final bounds alone, where a test is of what else a report holds."""
    with drawn_alone("draw_final_bounds"):
        yield


@pytest.fixture(scope="session")
def results(folder):
    return load(folder)


@pytest.fixture(scope="session")
def analysis(results):
    return Analysis(results)


@pytest.fixture(scope="session")
def page(folder):
    return (folder / "report" / "report.html").read_text(encoding="utf-8")
