"""The page of reproductions: the outcomes counted, one table of claims, and a section for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from estbench.options import shortened
from estbench.report.analysis.wording import count_noun
from estbench.report.page.render import part
from estbench.report.page.svg import inline_svg
from estbench.reproduce.papers import find_paper
from estbench.reproduce.tables import (
    claims_table,
    count_outcomes,
    write_claimed,
    write_measured,
)

if TYPE_CHECKING:
    from estbench.report.figures.rendered import RenderedFigure
    from estbench.reproduce.card_result import CardResult

# An outcome is read without its colour, too.
SIGNS = {"reproduced": "✓", "contradicted": "✗", "undecided": "?", "failed": "!"}
# What a page says of where a card ran, with the longest value that it prints; a damaged record may hold anything.
FACTS = {"device_name": "on {}", "torch": "with torch {}", "commit": "at commit {:.8}"}
LONGEST = 60


def render(results: Sequence[CardResult], pictures: Mapping[str, RenderedFigure | None]) -> str:
    """Return the page as HTML; every string of a card or a result is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(part("report.css")),  # noqa: S704  (our own file)
        results=results,
        counted=count_outcomes(results),
        table=claims_table(results),
        signs=SIGNS,
        pictures=pictures,
        drawing=inline_svg,
        paper=find_paper,
        count_noun=count_noun,
        claimed=write_claimed,
        measured=write_measured,
        ran=_say_where,
    )


def _say_where(result: CardResult) -> str:
    """Say how long a card took, and where."""
    known = result.environment
    facts = [words.format(shortened(str(known[name]), LONGEST)) for name, words in FACTS.items() if known.get(name)]
    return f"It took {result.seconds:,.0f} s {' '.join(facts)}".rstrip() + "."
