"""The site over several experiments as its readers use it."""

from __future__ import annotations

import pytest
from records import write_results

from estbench.report.site import build_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Two experiments, one of them with problems of long names."""
    root = tmp_path_factory.mktemp("browser") / "results"
    problems = [f"vae[dataset=mnist,hidden=[200],importance_samples={K}]" for K in (5, 50)]
    write_results(root / "several", ["reparam", "stl", "reinforce"], 3, problems=problems, replicates=0)
    write_results(root / "one", ["reparam"], 1, name="alone", replicates=0, rounds=0)
    return build_site([root], root.with_name("site"), figures=False).page


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_leads_to_the_reports(show, first, width, scheme):
    page = show(first, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = page.locator("article h3 a")
    addresses = [link.get_attribute("href") for link in links.all()]
    assert addresses == ["experiments/one/report.html", "experiments/several/report.html"]
    targets = page.locator("nav a").evaluate_all("links => links.map(l => l.getAttribute('href'))")
    assert targets
    assert all(page.locator(target).count() == 1 for target in targets)
    heights = page.locator("nav a").evaluate_all("links => links.map(l => l.getBoundingClientRect().height)")
    assert min(heights) >= 24


def test_nothing_needs_a_script(show, first):
    page = show(first, viewport={"width": 1280, "height": 800}, java_script_enabled=False)
    assert page.locator("article").count() == 2
    assert page.locator(".matrix tbody tr").count() == 3


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_an_estimator_fits_and_leads_back(show, first, width, scheme):
    own = first.parent / "estimators" / "reparam.html"
    page = show(own, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("tbody tr").count() == 3
    back = page.locator("header a").first
    assert (own.parent / back.get_attribute("href")).resolve() == first.resolve()


def test_a_report_leads_back(show, first):
    own = first.parent / "experiments" / "one" / "report.html"
    back = show(own, viewport={"width": 1280, "height": 800}).locator("header a").first
    assert (own.parent / back.get_attribute("href")).resolve() == first.resolve()
