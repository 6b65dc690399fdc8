"""A report with everything in it, opened in the chromium of the system."""

from __future__ import annotations

import shutil

import pytest
from records import write_results

from estbench.report import build

STATUSES = {("reinforce", 0): "diverged", ("stl", 3): None, ("detached", 1): "failed"}
STOPS = {("reinforce", 0): 800, ("detached", 1): 0}
# Chromium asks its makers for this and that unless it is told not to.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "comparison"
    write_results(path, seeds=4, statuses=STATUSES, stops=STOPS)
    return build(path)


class Opened:
    """A page, with everything that it said and asked for."""

    def __init__(self, browser, path, **options):
        self.path = path
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def check(self):
        assert self.said == []
        assert self.asked == [self.path.as_uri()]


@pytest.fixture
def show(browser):
    """Open a page; at the end, it has said nothing on the console and asked for nothing but itself."""
    opened = []

    def open_(path, **options):
        opened.append(Opened(browser, path, **options))
        return opened[-1].page

    yield open_
    for each in opened:
        each.check()
        each.context.close()


@pytest.fixture
def page(show, report):
    """The report at 1280 by 900 pixels, its estimators open for choice."""
    shown = show(report, viewport={"width": 1280, "height": 900})
    shown.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    shown.locator("#estimators > summary").click()
    return shown
