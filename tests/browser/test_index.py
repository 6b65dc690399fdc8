"""The index of experiments as its readers use it."""

from __future__ import annotations

import pytest
from records import write_results

from estbench.report import build
from estbench.report.index import build_index

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Two experiments, one of them with problems of long names."""
    root = tmp_path_factory.mktemp("browser") / "results"
    problems = [f"vae[dataset=mnist,hidden=[200],importance_samples={K}]" for K in (5, 50)]
    write_results(root / "several", ["reparam", "stl", "reinforce"], 3, problems=problems, replicates=0)
    write_results(root / "one", ["reparam"], 1, replicates=0, rounds=0)
    build(root / "one", ["html"])
    return build_index(root).page


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_leads_to_the_reports(show, index, width, scheme):
    page = show(index, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = page.locator("article h3 a")
    assert [link.get_attribute("href") for link in links.all()] == ["one/report/report.html"]
    targets = page.locator("nav a").evaluate_all("links => links.map(l => l.getAttribute('href'))")
    assert targets
    assert all(page.locator(target).count() == 1 for target in targets)
    heights = page.locator("nav a").evaluate_all("links => links.map(l => l.getBoundingClientRect().height)")
    assert min(heights) >= 24


def test_nothing_needs_a_script(show, index):
    page = show(index, viewport={"width": 1280, "height": 800}, java_script_enabled=False)
    assert page.locator("article").count() == 2
    assert page.locator(".matrix tbody tr").count() == 3
