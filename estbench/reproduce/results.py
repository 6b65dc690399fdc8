"""What reproductions leave behind: one JSON document per card, and a table, figures and a page made from them all.

results/reproductions/
  cards/<name>.json           the card as it was, what was measured, the environment
  reproductions.{csv,md,tex}  the table
  figures/<name>.{svg,png,pdf,csv}
  reproductions.html          everything on one page
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.options import validated
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.page.render import part
from estbench.report.page.svg import inline_svg
from estbench.reproduce.card import Card
from estbench.reproduce.figure import draw
from estbench.reproduce.outcome import Kept, Outcome
from estbench.reproduce.tables import table
from estbench.store.files import encoded, read_json, write_files, write_json

PAGE = "reproductions.html"


def record(outcome: Outcome, folder: Path, environment: dict[str, Any]) -> None:
    """Keep one outcome; it takes the place of an earlier one of the same card."""
    content = {
        **outcome.as_dict(),
        "axes": list(outcome.measured.axes) if outcome.measured else ["", ""],
        "log_axes": list(outcome.measured.log_axes) if outcome.measured else [False, False],
        "environment": environment,
    }
    path = GuardedPath(folder) / "cards" / f"{outcome.card.name}.json"
    try:
        path.parent.mkdir()
        write_json(path, _finite(content))
    except OSError as error:
        raise EstbenchError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from None


def recorded(folder: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The outcomes that a folder holds, by card; what is none, or is an earlier estbench's, is told and left out."""
    outcomes = []
    for path in (GuardedPath(folder) / "cards").iterdir():
        if path.suffix != ".json":
            continue
        try:
            outcomes.append(_outcome(path))
        except EstbenchError as error:
            tell(f"Warning: not on the page: {error}")
    return outcomes


def _outcome(path: GuardedPath) -> dict[str, Any]:
    data = read_json(path, "reproduce it again, or delete it")
    kept = {name: data[name] for name in Kept.model_fields if name in data}
    outcome = validated(Kept, kept, f"'{path}'").model_dump(mode="json", exclude_unset=True)
    if path.stem != outcome["card"]["name"]:
        raise EstbenchError(f"'{path}' is of the card {outcome['card']['name']!r}")
    return outcome


def write_page(cards: Sequence[Card], folder: Path, tell: Callable[[str], None]) -> Path:
    """Write the table, the figures and the page of all recorded outcomes; return the page."""
    outcomes = recorded(folder, tell)
    summary = table(cards, outcomes)
    pictures = {outcome["card"]["name"]: draw(outcome) for outcome in outcomes}
    files = {
        "reproductions.csv": encoded(summary.to_csv()),
        "reproductions.md": encoded(summary.to_markdown()),
        "reproductions.tex": encoded(summary.to_latex()),
        PAGE: encoded(_page(cards, outcomes, summary, pictures)),
    }
    for picture in filter(None, pictures.values()):
        files |= {f"figures/{picture.name}.{ending}": content for ending, content in picture.files().items()}
    write_files(GuardedPath(folder), files)
    return folder / PAGE


def _page(
    cards: Sequence[Card], outcomes: Sequence[dict[str, Any]], summary: Any, pictures: dict[str, RenderedFigure | None]
) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(part("report.css")),  # noqa: S704  (our own file)
        cards=cards,
        outcomes={outcome["card"]["name"]: outcome for outcome in outcomes},
        table=summary,
        pictures=pictures,
        drawing=inline_svg,
    )


def _finite(value: Any) -> Any:
    """As JSON has it: no NaN and no infinity, which become null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value, default=float))
