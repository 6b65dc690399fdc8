"""The repository around docs/: links from pages to its files, and the committed reports, which the site has too."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

DOCS = Path(__file__).parents[2]
ROOT = DOCS.parent
RESULTS = ROOT / "results"
ADDRESS = "https://github.com/estbench/estbench"
GLOB = re.compile(r"^[\w/*]*[\w/]\*$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def drop_empty_globs(text: str, docs: Path) -> str:
    r"""Return a page without the patterns of its toctrees that no page matches: Sphinx would warn of them.

    >>> drop_empty_globs("* [a](b.md)\n\nreference/*\nnone_*", DOCS)
    '* [a](b.md)\n\nreference/*\n'
    """

    def keep(match: re.Match[str]) -> str:
        return match[0] if any(docs.glob(f"{match[0]}.md")) or any(docs.glob(f"{match[0]}.ipynb")) else ""

    return GLOB.sub(keep, text)


def published() -> list[Path]:
    """Return the committed pages that the site serves: reports, and the pages about several of them."""
    return sorted(RESULTS.rglob("*.html"))


def publish(site: Path) -> None:
    """Copy the committed pages into a site that was built, at the same places below its results/."""
    for page in published():
        there = site / page.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, there)


def link_to_repository(text: str, page: Path) -> str:
    """Return the Markdown of a page, its links to files outside docs/ led to the site's copy or to the repository.

    >>> link_to_repository("[a](howto/x.md), [b](../README.md)", DOCS / "index.md")
    '[a](howto/x.md), [b](https://github.com/estbench/estbench/blob/main/README.md)'
    """

    def lead(match: re.Match[str]) -> str:
        file = (page.parent / match["target"]).resolve()
        if not file.exists() or file.is_relative_to(DOCS) or not file.is_relative_to(ROOT):
            return match[0]
        words, anchor, place = match["text"], match["anchor"] or "", file.relative_to(ROOT).as_posix()
        if file in published():
            up = os.path.relpath(DOCS, page.parent)
            return f'<a href="{up}/{place}{anchor}">{words}</a>'
        return f"[{words}]({ADDRESS}/{'tree' if file.is_dir() else 'blob'}/main/{place}{anchor})"

    return LINK.sub(lead, text)
