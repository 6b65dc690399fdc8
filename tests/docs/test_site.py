"""The whole site is built without a warning, and no link within it leads nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SITE = DOCS / "_build" / "html"

pytestmark = pytest.mark.docs


class Links(HTMLParser):
    """The addresses that a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in {"href", "src"} and value]


@pytest.fixture(scope="module")
def site():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [DOCS / "build.sh"], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return SITE


@pytest.mark.timeout(600)
def test_no_link_leads_nowhere(site):
    pages = [page for page in site.rglob("*.html") if "results" not in page.relative_to(site).parts[:1]]
    assert len(pages) > 90
    wrong = []
    for page in pages:
        for link in Links(page.read_text(encoding="utf-8")).found:
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc and parts.path:
                there = page.parent / unquote(parts.path)
                if not (there.is_file() or (there / "index.html").is_file()):
                    wrong.append(f"{page.relative_to(site)}: {link}")
    assert not wrong


def test_notebooks_were_executed(site):
    for name in ("quickstart", "probe", "own_estimator"):
        page = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "cell_output" in page
        assert "Traceback" not in page
