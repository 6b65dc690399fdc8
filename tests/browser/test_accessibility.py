"""What axe finds on each kind of page, wide and narrow, in the light and in the dark: nothing."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

import pytest

from estbench.report.site import build_site

pytestmark = pytest.mark.browser

RESULTS = Path(__file__).parents[2] / "results"
# Also the rule that axe leaves out unless asked: targets of 24 px.
RUN = "axe.run(document, {resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})"


@pytest.fixture(scope="module")
def axe():
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def site_of(report):
    """The site of the folder of a report, beside it."""
    return build_site([report.parents[1]], report.parents[2] / "site", figures=False)


@pytest.mark.parametrize("kind", ["report", "site", "estimator", "claims"])
@pytest.mark.parametrize(("width", "scheme"), list(itertools.product((400, 1280), ("light", "dark"))))
def test_axe_finds_nothing(show, report, axe, kind, width, scheme):
    made = {
        "report": lambda: report,
        "site": lambda: site_of(report).page,
        "estimator": lambda: site_of(report).page.parent / "estimators" / "rloo.html",
        "claims": lambda: RESULTS / "reproductions" / "reproductions.html",
    }
    page = show(made[kind](), viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate(axe)
    found = page.evaluate(RUN)
    assert found["passes"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
